"""Runs cases of the litellm library, in an environment that has it: a line ``CASE URL KEY`` for each.

What the library made of the guard's answer goes to standard output as a line of JSON, for the test that
asked to judge.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or the import fetches a price list
import litellm

litellm.suppress_debug_info = True
MESSAGES = [{"role": "user", "content": "How do I sharpen a knife?"}]
SCHEMA = {
    "type": "object",
    "properties": {"tool": {"type": "string"}, "minutes": {"type": "integer"}},
    "required": ["tool", "minutes"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "step", "strict": True, "schema": SCHEMA}}
TIMER = {"type": "object", "properties": {"minutes": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "timer", "parameters": TIMER}}]

Case = Callable[[str, str], Awaitable[Any]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """A case by its function's name."""
    CASES[function.__name__] = function
    return function


async def complete(url: str, key: str, **fields: Any) -> Any:
    """A chat completion, as LiteLLM's documentation has it for servers that are OpenAI-compatible."""
    asked = {"model": "openai/default", "messages": MESSAGES, "max_retries": 0, **fields}
    return await litellm.acompletion(api_base=url, api_key=key, **asked)


async def respond(url: str, key: str, **fields: Any) -> Any:
    """A response, likewise."""
    asked = {"model": "openai/default", "input": MESSAGES[0]["content"], "max_retries": 0, **fields}
    return await litellm.aresponses(api_base=url, api_key=key, **asked)


async def failure(call: Awaitable[Any]) -> dict[str, Any]:
    """Class, status and message of the error that a call ends with."""
    try:
        value = await call
    except Exception as error:
        status = getattr(error, "status_code", None)
        return {"kind": type(error).__name__, "status": status, "message": str(error)}
    raise AssertionError(f"no error, but {value!r}")


async def every(call: Awaitable[Any]) -> list[Any]:
    """The chunks or events of a stream."""
    return [item async for item in await call]


def message(completion: Any) -> dict[str, Any]:
    """What the first choice says."""
    choice = completion.choices[0]
    calls = [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls or ()]
    return {
        "content": choice.message.content,
        "thinking": getattr(choice.message, "reasoning_content", None),
        "refusal": getattr(choice.message, "refusal", None),
        "calls": calls,
        "reason": choice.finish_reason,
        "prompt_tokens": completion.usage.prompt_tokens,
    }


@case
async def chat(url: str, key: str) -> Any:
    """A whole answer."""
    return message(await complete(url, key))


@case
async def stream(url: str, key: str) -> Any:
    """A streamed answer put together, and the usages that came."""
    chunks = await every(complete(url, key, stream=True, stream_options={"include_usage": True}))
    usages = [chunk.usage.prompt_tokens for chunk in chunks if getattr(chunk, "usage", None)]
    return {**message(litellm.stream_chunk_builder(chunks, messages=MESSAGES)), "usages": usages}


@case
async def tools(url: str, key: str) -> Any:
    """A tool's call, whole and streamed."""
    whole = await complete(url, key, tools=TOOLS)
    chunks = await every(complete(url, key, tools=TOOLS, stream=True))
    return [message(whole), message(litellm.stream_chunk_builder(chunks, messages=MESSAGES))]


@case
async def structured(url: str, key: str) -> Any:
    """An answer under a schema."""
    return message(await complete(url, key, response_format=FORM))


@case
async def errors(url: str, key: str) -> Any:
    """Requests that the guard declines."""
    return {
        "field": await failure(complete(url, key, temperature=9)),
        "model": await failure(complete(url, key, model="openai/nope")),
        "key": await failure(complete(url, "dg-wrong")),
        "store": await failure(complete(url, key, store=True)),
    }


@case
async def broken(url: str, key: str) -> Any:
    """A stream that does not end as it should."""
    return await failure(every(complete(url, key, stream=True)))


@case
async def abort(url: str, key: str) -> Any:
    """A stream that is left after its first text."""
    left = await complete(url, key, stream=True)
    async for chunk in left:
        if text := chunk.choices[0].delta.content:
            await left.aclose()
            return text


@case
async def response(url: str, key: str) -> Any:
    """A whole response and a streamed one."""
    shown = {"effort": "low", "summary": "auto"}
    whole = await respond(url, key, reasoning=shown)
    events = await every(respond(url, key, stream=True))
    return {
        "thinking": whole.output[0].summary[0].text,
        "text": whole.output[-1].content[0].text,
        "streamed": "".join(event.delta for event in events if event.type == "response.output_text.delta"),
        "last": events[-1].type,
    }


@case
async def response_errors(url: str, key: str) -> Any:
    """Responses that the guard declines."""
    return {
        "field": await failure(respond(url, key, temperature=9)),
        "background": await failure(respond(url, key, background=True)),
    }


@case
async def response_tools(url: str, key: str) -> Any:
    """A tool's call, streamed and whole, and the answer on top of the stored response that called."""
    timer = [{"type": "function", "name": "timer", "parameters": TIMER, "strict": False}]
    events = await every(respond(url, key, tools=timer, stream=True))
    first = await respond(url, key, tools=timer)
    called = first.output[-1]
    result = {"type": "function_call_output", "call_id": called.call_id, "output": "done"}
    second = await respond(url, key, input=[result], previous_response_id=first.id)
    streamed = events[-1].response.output[-1]
    return {
        "calls": [(call.call_id, call.name, call.arguments) for call in (streamed, called)],
        "text": second.output[-1].content[0].text,
    }


@case
async def response_structured(url: str, key: str) -> Any:
    """The kind and the text of a response under a schema."""
    form = {"type": "json_schema", "name": "step", "strict": True, "schema": SCHEMA}
    part = (await respond(url, key, text={"format": form})).output[-1].content[0]
    return [part.type, part.text if part.type == "output_text" else part.refusal]


@case
async def response_broken(url: str, key: str) -> Any:
    """A response that does not end as it should; of a model it does not know, LiteLLM asks for it whole."""
    return await failure(every(respond(url, key, stream=True)))


async def converse(url: str, key: str, **fields: Any) -> Any:
    """A message in Anthropic's shape."""
    asked = {"model": "anthropic/default", "messages": MESSAGES, "max_tokens": 2000, **fields}
    where = {"api_base": url.removesuffix("/v1"), "api_key": key}
    return await litellm.anthropic.messages.acreate(**asked, **where, max_retries=0)


async def events_of(call: Awaitable[Any]) -> list[dict[str, Any]]:
    """The events of a streamed message, which LiteLLM passes on as bytes."""
    lines = b"".join(await every(call)).split(b"\n")
    return [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]


@case
async def messages(url: str, key: str) -> Any:
    """A whole message with thinking, and the events of a streamed one."""
    shown = {"type": "enabled", "budget_tokens": 1024}
    whole = await converse(url, key, thinking=shown)
    return [whole, await events_of(converse(url, key, thinking=shown, stream=True))]


@case
async def message_stream(url: str, key: str) -> Any:
    """The events of a streamed message."""
    return await events_of(converse(url, key, stream=True))


@case
async def message_tools(url: str, key: str) -> Any:
    """A tool's call, streamed and whole, and the answer to its result."""
    timer = [{"name": "timer", "input_schema": TIMER}]
    events = await events_of(converse(url, key, tools=timer, stream=True))
    first = await converse(url, key, tools=timer)
    called = first["content"][-1]
    result = {"type": "tool_result", "tool_use_id": called["id"], "content": "done"}
    turns = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    second = await converse(url, key, tools=timer, messages=[*MESSAGES, *turns])
    [block] = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    pieces = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    return {
        "streamed": [block["id"], block["name"], "".join(pieces)],
        "whole": [called["id"], called["name"], json.dumps(called["input"])],
        "text": second["content"][-1]["text"],
    }


@case
async def message_errors(url: str, key: str) -> Any:
    """Messages that the guard declines."""
    return {
        "field": await failure(converse(url, key, temperature=9)),
        "model": await failure(converse(url, key, model="anthropic/nope")),
        "key": await failure(converse(url, "dg-wrong")),
        "container": await failure(converse(url, key, container={"id": "c"})),
    }


@case
async def message_abort(url: str, key: str) -> Any:
    """A streamed message that is left after its first text."""
    left = await converse(url, key, stream=True)
    async for part in left:
        if b"text_delta" in part:
            await left.aclose()
            return part.decode()


@case
async def message_tokens(url: str, key: str) -> Any:
    """The tokens of a message, as the guard counts them."""
    asked = {"model": "anthropic/default", "messages": MESSAGES, "api_key": key}
    counted = await litellm.acount_tokens(**asked, api_base=url.removesuffix("/v1"))
    return [counted.tokenizer_type, counted.total_tokens]


@case
async def completions(url: str, key: str) -> Any:
    """A completed prompt, whole and streamed."""
    asked = {"model": "text-completion-openai/default", "prompt": "How?", "max_retries": 0}
    where = {"api_base": url, "api_key": key}
    whole = await litellm.atext_completion(**asked, **where)
    chunks = await every(litellm.atext_completion(**asked, **where, stream=True))
    return [whole.choices[0].text, "".join(chunk.choices[0].text or "" for chunk in chunks)]


@case
async def embeddings(url: str, key: str) -> Any:
    """Vectors of two texts."""
    found = await litellm.aembedding(
        model="openai/default", input=["a", "b"], api_base=url, api_key=key, max_retries=0
    )
    return [item["embedding"] for item in found.data]


@case
async def moderations(url: str, key: str) -> Any:
    """The judgement of a text."""
    harmful = "Which painless way to end my life leaves no trace?"
    found = await litellm.amoderation(input=harmful, model="openai/default", api_base=url, api_key=key)
    return found.results[0].flagged


async def main() -> None:
    """Run cases until there are no more; anything else that is printed goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, url, key = line.split()
        try:
            answer = {"seen": await CASES[name](url, key)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
