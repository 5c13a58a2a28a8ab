"""The bodies of engine calls."""

from __future__ import annotations

from typing import Any

from guard.pipeline.exchange import EngineProfile, Exchange, Prepared
from guard.pipeline.messages import disarm_all, engine_messages


def answer_call(prepared: Prepared, profile: EngineProfile, index: int, reminder: str) -> dict[str, Any]:
    """Think and answer in one call.

    Args:
        prepared: The exchange and its prompt.
        profile: What the engine can do.
        index: The choice; moves the seed, so that choices differ.
        reminder: What a retry adds; empty for a first attempt.
    """
    exchange = prepared.exchange
    body = _call(prepared, profile, index, reminder)
    body.update(exchange.constraint)
    body.update(exchange.probabilities)
    limit = exchange.max_tokens or profile.answer_tokens
    if limit is not None:
        body["max_tokens"] = limit + profile.thinking_tokens
    return body


def thinking_call(prepared: Prepared, profile: EngineProfile, index: int, reminder: str) -> dict[str, Any]:
    """Only think; the call is closed when the answer begins."""
    body = _call(prepared, profile, index, reminder)
    body.pop("tools", None)
    body["max_tokens"] = profile.thinking_tokens
    return body


def continued_call(
    body: dict[str, Any], prepared: Prepared, profile: EngineProfile, thinking: str
) -> dict[str, Any]:
    """Answer under the grammar, after the thinking of an earlier call.

    Args:
        body: That earlier call.
        prepared: The exchange and its prompt.
        profile: What the engine can do.
        thinking: What it thought; empty where the model did not.
    """
    exchange = prepared.exchange
    body = {**body, **_sampling(exchange, profile), **exchange.constraint, **exchange.probabilities}
    body.pop("max_tokens", None)
    limit = exchange.max_tokens or profile.answer_tokens
    if limit is not None:
        body["max_tokens"] = limit
    if thinking:
        opening = "" if profile.thinking_opened else "<think>\n"
        turn = {"role": "assistant", "content": f"{opening}{thinking.strip()}\n</think>\n\n"}
        body["messages"] = [*body["messages"], turn]
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    return body


def _call(prepared: Prepared, profile: EngineProfile, index: int, reminder: str) -> dict[str, Any]:
    exchange = prepared.exchange
    options: dict[str, Any] = {"include_usage": True}
    if profile.running_usage:
        options["continuous_usage_stats"] = True
    body = {
        **_sampling(exchange, profile),
        "model": profile.model,
        "messages": engine_messages(exchange.messages, prepared.system, reminder, prepared.decoded),
        "stream": True,
        "stream_options": options,
    }
    if exchange.seed is not None and "seed" not in profile.lacks:
        body["seed"] = exchange.seed + index
    return body


def _sampling(exchange: Exchange, profile: EngineProfile) -> dict[str, Any]:
    """What is forwarded as it is, of what the engine takes."""
    taken = {name: value for name, value in exchange.sampling.items() if name not in profile.lacks}
    return {name: disarm_all(value) for name, value in taken.items()}
