"""What answers the prompts of an evaluation: a checkpoint in this process, or an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from guard.policy.model import digest
from training.endpoint import Cache, Reply, address_digest, ask_all, needed
from training.errors import DataError
from training.files import file_digest
from training.local import LocalModel
from training.progress import Progress
from training.recipe import Endpoint, Recipe
from training.records import Message

Conversation = tuple[Message, ...]
Sampler = Callable[[Sequence[Conversation], int], list[str]]
"""Conversations and a token limit in, turns out; thinking stands between ``<think>`` tags."""

ENDPOINTS = ("endpoint", "guard")
"""Models that are asked over HTTP, named as their tables under ``[evaluate]``."""


def sampler(name: str, recipe: Recipe, progress: Progress) -> Sampler:
    """What answers for a model; weights are loaded when the first set needs them."""
    return _remote(name, recipe, progress) if name in ENDPOINTS else _local(name, recipe, progress)


def asked_of(name: str, recipe: Recipe) -> str:
    """Digest of what all turns of a model depend on: its weights or address, the recipe's limit."""
    settings = recipe.evaluate
    parts: list[Any] = [recipe.student, settings.max_tokens]
    if name in ENDPOINTS:
        endpoint = _endpoint(name, recipe)
        parts += [endpoint.url, endpoint.model]
    elif name != "base":
        parts.append(file_digest(_trained(name, recipe)))
    return digest(parts)


def _local(name: str, recipe: Recipe, progress: Progress) -> Sampler:
    loaded: list[LocalModel] = []

    def sample(conversations: Sequence[Conversation], max_tokens: int) -> list[str]:
        if not loaded:
            loaded.append(_checkpoint(name, recipe))
        with progress(len(conversations)) as advance:
            turns = loaded[0].complete(
                conversations, max_tokens=max_tokens, batch=recipe.evaluate.batch, advance=advance
            )
        return [turn.text for turn in turns]

    return sample


def _remote(name: str, recipe: Recipe, progress: Progress) -> Sampler:
    endpoint = _endpoint(name, recipe)

    def sample(conversations: Sequence[Conversation], max_tokens: int) -> list[str]:
        bodies: list[dict[str, Any]] = [
            {
                "messages": [message.model_dump() for message in conversation],
                "max_tokens": max_tokens,
                "temperature": 0.0,
            }
            for conversation in conversations
        ]
        kept = recipe.run_dir / "evaluation" / name / f"cache-{address_digest(endpoint)}.sqlite"
        with Cache(kept) as cache, progress(len(bodies)) as advance:
            replies = ask_all(endpoint, cache, bodies, lambda: advance(1))
        return [_turn(choices[0]) if choices else "" for choices in replies]

    return sample


def _turn(reply: Reply) -> str:
    return f"<think>\n{reply.thinking}\n</think>\n\n{reply.text}" if reply.thinking else reply.text


def _endpoint(name: str, recipe: Recipe) -> Endpoint:
    named = recipe.evaluate.guard if name == "guard" else recipe.evaluate.endpoint
    return needed(named, f"evaluate.{name}", "evaluate")


def _checkpoint(name: str, recipe: Recipe) -> LocalModel:
    if name == "base":
        return LocalModel(recipe.student)
    trained = _trained(name, recipe)
    if (trained / "adapter_config.json").exists():
        return LocalModel(recipe.student, adapter=trained)
    return LocalModel(str(trained))


def _trained(name: str, recipe: Recipe) -> Path:
    trained = recipe.run_dir / name / "model"
    if not trained.exists():
        raise DataError(f"{trained} does not exist; did stage {name} run?")
    return trained
