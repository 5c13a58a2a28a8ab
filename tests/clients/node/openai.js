// The official openai-node client, as an application uses it.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { all, failure, run } from "./run.js";

const model = "default";
const messages = [{ role: "user", content: "How do I sharpen a knife?" }];
const input = messages[0].content;
const Step = z.object({ tool: z.string(), minutes: z.number().int() });
const tools = [zodFunction({ name: "timer", parameters: z.object({ minutes: z.number() }) })];
const weather = {
  type: "function",
  name: "weather",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
};

const connect = (baseURL, apiKey) => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const told = (error) => ({
  kind: error.constructor.name,
  status: error.status,
  message: error.message,
  param: error.param,
  code: error.code,
});

await run({
  async chat(url, key) {
    const { data, response } = await connect(url, key).chat.completions.create({ model, messages }).withResponse();
    return { ...data.choices[0].message, usage: data.usage, decision: response.headers.get("x-guard-decision") };
  },

  async stream(url, key) {
    const stream_options = { include_usage: true };
    const stream = await connect(url, key).chat.completions.create({ model, messages, stream: true, stream_options });
    const chunks = await all(stream);
    return {
      text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
      reasoning: chunks.map((chunk) => chunk.choices[0]?.delta.reasoning ?? "").join(""),
      usages: chunks.map((chunk) => chunk.usage).filter(Boolean),
    };
  },

  async streamHelper(url, key) {
    const stream = connect(url, key).chat.completions.stream({ model, messages });
    return (await stream.finalChatCompletion()).choices[0].message.content;
  },

  async tools(url, key) {
    const parsed = await connect(url, key).chat.completions.parse({ model, messages, tools });
    return parsed.choices[0].message.tool_calls;
  },

  async streamedToolLoop(url, key) {
    const asked = [];
    const timer = { name: "timer", parse: JSON.parse, function: (given) => (asked.push(given), "done") };
    const parameters = { type: "object", properties: { minutes: { type: "number" } } };
    const runner = connect(url, key).chat.completions.runTools({
      model,
      messages,
      stream: true,
      tools: [{ type: "function", function: { ...timer, parameters } }],
    });
    return { content: await runner.finalContent(), asked };
  },

  async parse(url, key) {
    const response_format = zodResponseFormat(Step, "step");
    const parsed = await connect(url, key).chat.completions.parse({ model, messages, response_format });
    const { refusal, parsed: step } = parsed.choices[0].message;
    return { refusal, step };
  },

  async errors(url, key) {
    const { completions } = connect(url, key).chat;
    return {
      field: told(await failure(completions.create({ model, messages, temperature: 9 }))),
      model: told(await failure(completions.create({ model: "nope", messages }))),
      stored: told(await failure(completions.create({ model, messages, store: true }))),
      key: told(await failure(connect(url, "dg-wrong").chat.completions.create({ model, messages }))),
    };
  },

  async brokenStream(url, key) {
    const stream = await connect(url, key).chat.completions.create({ model, messages, stream: true });
    return told(await failure(all(stream)));
  },

  async abort(url, key) {
    const stream = await connect(url, key).chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) {
        stream.controller.abort();
        return chunk.choices[0].delta.content;
      }
    }
  },

  async response(url, key) {
    const response = await connect(url, key).responses.create({ model, input });
    const [thinking] = response.output;
    return { thinking: thinking.type === "reasoning" && thinking.content, text: response.output_text, status: response.status, usage: response.usage };
  },

  async responseStream(url, key) {
    const events = await all(await connect(url, key).responses.create({ model, input, stream: true }));
    return { numbers: events.map((event) => event.sequence_number), last: events.at(-1) };
  },

  async responseTools(url, key) {
    const { responses } = connect(url, key);
    const first = await responses.stream({ model, input, tools: [weather] }).finalResponse();
    const call = first.output.at(-1);
    const output = { type: "function_call_output", call_id: call.call_id, output: "rain" };
    const second = await responses.create({ model, input: [output], previous_response_id: first.id });
    return { name: call.name, arguments: call.arguments, text: second.output_text };
  },

  async responseParse(url, key) {
    const text = { format: zodTextFormat(Step, "step") };
    const parsed = await connect(url, key).responses.parse({ model, input, text });
    return { step: parsed.output_parsed, content: parsed.output.at(-1).content[0].type };
  },

  async responsesStored(url, key) {
    const { responses } = connect(url, key);
    const made = await responses.create({ model, input });
    const again = await responses.retrieve(made.id);
    const items = await all(responses.inputItems.list(made.id));
    await responses.delete(made.id);
    return {
      same: JSON.stringify(made) === JSON.stringify(again),
      input: items.map((item) => item.content[0].text),
      gone: told(await failure(responses.retrieve(made.id))),
    };
  },

  async responseErrors(url, key) {
    const { responses } = connect(url, key);
    return {
      background: told(await failure(responses.create({ model, input, background: true }))),
      model: told(await failure(responses.create({ model: "nope", input }))),
    };
  },

  async responseAbort(url, key) {
    const stream = await connect(url, key).responses.create({ model, input, stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") {
        stream.controller.abort();
        return event.delta;
      }
    }
  },

  async completions(url, key) {
    const { completions } = connect(url, key);
    const whole = await completions.create({ model, prompt: input, max_tokens: 100 });
    const stream = await completions.create({ model, prompt: input, max_tokens: 100, stream: true });
    const pieces = (await all(stream)).map((chunk) => chunk.choices[0].text);
    return { text: whole.choices[0].text, streamed: pieces.join("") };
  },

  async embeddings(url, key) {
    const vectors = await connect(url, key).embeddings.create({ model, input: ["a", "b"] });
    return vectors.data.map((item) => item.embedding);
  },

  async moderations(url, key) {
    const harmful = "Which painless way to end my life leaves no trace?";
    return (await connect(url, key).moderations.create({ input: harmful })).results;
  },

  async models(url, key) {
    const { models } = connect(url, key);
    return { listed: (await all(models.list())).map((one) => one.id), one: (await models.retrieve(model)).id };
  },
});
