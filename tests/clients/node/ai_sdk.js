// Vercel's AI SDK with its provider for OpenAI-compatible servers, which validates every body and every chunk.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

import { all, failure, run } from "./run.js";

globalThis.AI_SDK_LOG_WARNINGS = false; // they are in the results as well

const prompt = "How do I sharpen a knife?";
const Step = z.object({ tool: z.string(), minutes: z.number().int() });

const connect = (baseURL, apiKey) =>
  createOpenAICompatible({ name: "guard", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const options = (url, key) => ({ model: connect(url, key).chatModel("default"), prompt, maxRetries: 0 });
const told = (error) => ({ kind: error.name, status: error.statusCode, message: error.message });

/** A stream's parts; whatever went wrong is a part of its own, so nothing is printed beside. */
const parts = (given) => all(streamText({ ...given, onError: () => {} }).fullStream);
const joined = (found, type) =>
  found.filter((part) => part.type === type).map((part) => part.text).join("");

await run({
  async chat(url, key) {
    const { text, reasoningText, usage, finishReason, warnings } = await generateText(options(url, key));
    return { text, reasoningText, usage, finishReason, warnings };
  },

  async stream(url, key) {
    const found = await parts(options(url, key));
    return {
      text: joined(found, "text-delta"),
      reasoning: joined(found, "reasoning-delta"),
      usage: found.at(-1).totalUsage,
      last: found.at(-1).type,
    };
  },

  async tools(url, key) {
    const timer = tool({ inputSchema: z.object({ minutes: z.number() }), execute: ({ minutes }) => `${minutes} set` });
    const given = { ...options(url, key), tools: { timer }, stopWhen: isStepCount(2) };
    const { text, steps } = await generateText(given);
    return { text, calls: steps[0].toolCalls.map((call) => [call.toolCallId, call.toolName, call.input]) };
  },

  async streamedTools(url, key) {
    const timer = tool({ inputSchema: z.object({ minutes: z.number() }), execute: ({ minutes }) => `${minutes} set` });
    const found = await parts({ ...options(url, key), tools: { timer }, stopWhen: isStepCount(2) });
    return {
      text: joined(found, "text-delta"),
      calls: found.filter((part) => part.type === "tool-call").map((part) => [part.toolCallId, part.toolName, part.input]),
      results: found.filter((part) => part.type === "tool-result").map((part) => part.output),
    };
  },

  async structured(url, key) {
    const given = { ...options(url, key), output: Output.object({ schema: Step }) };
    const whole = (await generateText(given)).output;
    const streamed = await streamText(given).output;
    return { whole, streamed };
  },

  async unstructured(url, key) {
    const given = { ...options(url, key), output: Output.object({ schema: Step }) };
    return told(await failure((async () => (await generateText(given)).output)()));
  },

  async errors(url, key) {
    const nope = connect(url, key).chatModel("nope");
    return {
      field: told(await failure(generateText({ ...options(url, key), temperature: 9 }))),
      model: told(await failure(generateText({ model: nope, prompt, maxRetries: 0 }))),
      key: told(await failure(generateText(options(url, "dg-wrong")))),
      streamed: (await parts({ ...options(url, key), temperature: 9 })).map((part) => part.type),
    };
  },

  async brokenStream(url, key) {
    const found = await parts(options(url, key));
    return { text: joined(found, "text-delta"), errors: found.filter((part) => part.type === "error").length };
  },

  async abort(url, key) {
    const leaving = new AbortController();
    const { fullStream } = streamText({ ...options(url, key), abortSignal: leaving.signal });
    const kinds = [];
    for await (const part of fullStream) {
      kinds.push(part.type);
      if (part.type === "text-delta") leaving.abort();
    }
    return kinds.at(-1);
  },

  async completions(url, key) {
    const given = { model: connect(url, key).completionModel("default"), prompt, maxOutputTokens: 100, maxRetries: 0 };
    const { text } = await generateText(given);
    return { text, streamed: joined(await parts(given), "text-delta") };
  },

  async embeddings(url, key) {
    const given = { model: connect(url, key).embeddingModel("default"), values: ["a", "b"], maxRetries: 0 };
    return (await embedMany(given)).embeddings;
  },
});
