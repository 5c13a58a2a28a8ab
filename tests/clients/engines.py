"""Engines that misbehave or do more than chat, for every client alike."""

from __future__ import annotations

import base64
import struct
from typing import Any

from guard.keys import hash_key, new_key
from tests.guarded import HARMLESS, answering, engine_reply
from tests.scripted import STALL, ReceivedRequest, Reply, chat_events

KEY = new_key()
KEYED: dict[str, Any] = {"keys": ({"name": "app", "hash": hash_key(KEY), "scopes": ["chat", "reasoning"]},)}
"""Settings that give the guard one key, which may see the thinking."""
ENFORCE: dict[str, Any] = {"enforcement": {"mode": "enforce"}}
TIMER = ("call_1", "timer", '{"minutes": 5}')
"""A tool call: id, name, arguments."""


def using_a_tool(request: ReceivedRequest) -> Reply:
    """Calls the timer, and answers once the result is there."""
    if request.json["messages"][-1]["role"] == "tool":
        return engine_reply("The timer runs.")
    return engine_reply("", HARMLESS, tool_calls=[TIMER], finish="tool_calls")


def breaking_off(request: ReceivedRequest | None = None) -> Reply:
    """Resets the connection in the middle of the answer."""
    events = chat_events("With a whetstone.", HARMLESS)
    return Reply.sse(events).reset_after(sum(map(len, events)) - 400)


def stalling(request: ReceivedRequest | None = None) -> Reply:
    """Begins an answer and never ends it."""
    events = chat_events("With a whetstone.", HARMLESS, finish=None, usage=False, done=False)
    return Reply.sse([*events, STALL])


def embedding(request: ReceivedRequest) -> Reply:
    """Makes vectors."""
    if not request.path.endswith("/embeddings"):
        return answering(lambda chat: engine_reply())(request)
    given = request.json["input"]
    packed = request.json.get("encoding_format") == "base64"
    vectors = [[0.5, float(at)] for at in range(len(given) if isinstance(given, list) else 1)]
    data = [
        {"object": "embedding", "index": at, "embedding": _base64(vector) if packed else vector}
        for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return Reply.json({"object": "list", "model": "scripted", "data": data, "usage": usage})


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
