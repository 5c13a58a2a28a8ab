"""Keep requests within the context of an engine that does not do so itself.

transformers serve answers a prompt that is longer than the model's context with noise, and ends when
one request needs more cache than there is. So the guard counts before it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer

from guard.errors import ConfigError, InvalidRequest

PER_MESSAGE = 8
"""Tokens that a chat template adds to a message, at most."""
LEAST_ANSWER = 16
"""Tokens that must be left for thinking and answer."""
CHARACTERS_PER_TOKEN = 16
"""More than any tokenizer reaches on real text: longer prompts are refused without counting."""


class ContextLimit:
    """Counts the tokens of a request with the model's own tokenizer."""

    def __init__(self, tokenizer: Tokenizer, tokens: int) -> None:
        """Hold requests to ``tokens``, prompt and answer together."""
        self._tokenizer = tokenizer
        self._tokens = tokens

    @classmethod
    def of_checkpoint(cls, folder: Path) -> ContextLimit:
        """Read tokenizer and context length from a checkpoint folder.

        Raises:
            ConfigError: The folder is not a checkpoint.
        """
        try:
            config = orjson.loads((folder / "config.json").read_bytes())
            tokens = int(config["max_position_embeddings"])
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ConfigError(f"{folder}: is no checkpoint folder: {error}") from error
        tokenizer.no_truncation()
        return cls(tokenizer, tokens)

    def fit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request with ``max_tokens`` lowered to what the context leaves.

        Raises:
            InvalidRequest: The prompt leaves no room for an answer.
        """
        texts = [_text(message) for message in body["messages"]]
        characters = sum(map(len, texts))
        if characters > self._tokens * CHARACTERS_PER_TOKEN:
            raise self._too_long(characters // 4)
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        prompt = sum(len(one.ids) for one in encoded) + PER_MESSAGE * (len(texts) + 1)
        left = self._tokens - prompt
        if left < LEAST_ANSWER:
            raise self._too_long(prompt)
        wanted = body.get("max_tokens")
        return {**body, "max_tokens": left if wanted is None else min(wanted, left)}

    def _too_long(self, prompt: int) -> InvalidRequest:
        message = (
            f"The model's context is {self._tokens} tokens; the messages and the policy take about {prompt}. "
            "Send less."
        )
        return InvalidRequest(message, param="messages", code="context_length_exceeded")


def _text(message: Mapping[str, Any]) -> str:
    """Everything of a message that reaches the prompt."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(part.get("text", "") for part in content)
    calls = message.get("tool_calls")
    return content + orjson.dumps(calls).decode() if calls else content
