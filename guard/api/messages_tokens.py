"""How many tokens a prompt takes, without asking the engine.

An estimate on the safe side: clients use the count to stay within a context window. What an engine
really counted is in the ``usage`` of its answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile
from typing import Any

import orjson

from guard.pipeline.exchange import Exchange
from guard.pipeline.messages import Message
from guard.policy.compose import estimate_tokens

TOKENS_PER_TURN = 4
"""What a chat template puts around a message."""
TOKENS_PER_IMAGE = 1600
"""About what large images take with models that see."""


def estimated_tokens(system: str, exchange: Exchange) -> int:
    """Tokens of a whole prompt.

    Args:
        system: As composed: the policy and the application's own system prompt.
        exchange: The messages, and the tools among what is forwarded.
    """
    messages = list(dropwhile(lambda message: message["role"] == "system", exchange.messages))
    texts = [system, *(text for message in messages for text in _texts(message))]
    if tools := exchange.sampling.get("tools"):
        texts.append(orjson.dumps(tools).decode())
    images: int = sum(part["type"] == "image_url" for message in messages for part in _parts(message))
    return sum(map(_tokens, texts)) + TOKENS_PER_TURN * (len(messages) + 1) + TOKENS_PER_IMAGE * images


def _texts(message: Message) -> Iterator[str]:
    if isinstance(message.get("content"), str):
        yield message["content"]
    for part in _parts(message):
        yield part.get("text", "")
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"]
        yield call["function"]["arguments"]


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _tokens(text: str) -> int:
    """Tokenizers give characters outside ASCII about a token each."""
    ascii_only = text.encode("ascii", "ignore").decode()
    return estimate_tokens(ascii_only) + len(text) - len(ascii_only)
