"""Completions as OpenAI's legacy endpoint writes them, whole and in chunks of the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from guard.api.answer import Gathered
from guard.api.chat_response import DONE, error_frame
from guard.errors import ApiError
from guard.pipeline.events import AnswerText, Event, Finished
from guard.pipeline.exchange import Prepared
from guard.pipeline.usage import Usage, total

_REASONS = frozenset({"stop", "length", "content_filter"})


def completion(prepared: Prepared, choices: list[Gathered]) -> bytes:
    """The body of an answer that is not streamed.

    Args:
        prepared: The exchange of the first prompt.
        choices: Every choice of every prompt, in order.
    """
    finished = [choice.finished or Finished("stop", Usage()) for choice in choices]
    body = _head(prepared)
    body["choices"] = [
        _choice(index, "".join(choice.answer), finished[index].reason) for index, choice in enumerate(choices)
    ]
    usages = {index: end.usage for index, end in enumerate(finished)}
    body["usage"] = _usage(usages, prepared.exchange.choices).body()
    return orjson.dumps(body)


def _usage(usages: Mapping[int, Usage], choices: int) -> Usage:
    """Usage of all prompts: choices of one prompt share its tokens, prompts do not.

    Args:
        usages: By number of the choice.
        choices: How many each prompt has.
    """
    prompts: dict[int, list[Usage]] = {}
    for index, usage in usages.items():
        prompts.setdefault(index // choices, []).append(usage)
    totals = [total(group) for group in prompts.values()]
    return Usage(
        prompt=sum(usage.prompt for usage in totals),
        completion=sum(usage.completion for usage in totals),
        reasoning=sum(usage.reasoning for usage in totals),
        cached=sum(usage.cached for usage in totals),
    )


class TextWriter:
    """Writes the chunks of one stream; thinking has no place in them."""

    def __init__(self, prepared: Prepared, *, include_usage: bool) -> None:
        """Nothing is written yet.

        Args:
            prepared: The exchange of the first prompt.
            include_usage: Whether the stream ends with a usage chunk.
        """
        self._head = _head(prepared)
        self._per_prompt = prepared.exchange.choices
        self._include_usage = include_usage
        self._usages: dict[int, Usage] = {}

    def frames(self, index: int, event: Event) -> bytes:
        """The server-sent events for one event of a choice; empty where nothing is shown."""
        match event:
            case AnswerText(text):
                return self._frame([_choice(index, text, None)])
            case Finished(reason, usage):
                self._usages[index] = usage
                return self._frame([_choice(index, "", reason)])
        return b""

    def end(self) -> bytes:
        """The usage chunk, where it was asked for, and ``[DONE]``."""
        if not self._include_usage:
            return DONE
        return self._frame([], _usage(self._usages, self._per_prompt).body()) + DONE

    def failed(self, error: ApiError) -> bytes:
        """What closes the stream when an error comes after its beginning."""
        return error_frame(error)

    def _frame(self, choices: list[dict[str, Any]], usage: dict[str, object] | None = None) -> bytes:
        chunk = {**self._head, "choices": choices}
        if self._include_usage:
            chunk["usage"] = usage
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    if reason is not None and reason not in _REASONS:
        reason = "stop"
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _head(prepared: Prepared) -> dict[str, Any]:
    exchange = prepared.exchange
    return {
        "id": f"cmpl-{exchange.request_id}",
        "object": "text_completion",
        "created": int(exchange.started_at.timestamp()),
        "model": exchange.model,
        "system_fingerprint": f"fp_{prepared.snapshot.policy.digest[:12]}",
    }
