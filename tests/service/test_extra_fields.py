"""Fields of engines that OpenAI does not have, and fields that say who asks, through the whole guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.guarded import ask, engine_reply, guarded
from tests.security.surfaces import CHAT, COMPLETIONS, RESPONSES, Surface, each_surface, tell

VLLM = ({"id": "scripted", "object": "model", "owned_by": "vllm"},)
EXTRAS: dict[str, Any] = {
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "cache_salt": "c2FsdA==",
    "priority": 5,
    "chat_template_kwargs": {"date_string": "26 Jul 2026"},
}
LABELS: dict[str, Any] = {
    "user": "u-1",
    "safety_identifier": "s-1",
    "prompt_cache_key": "k-1",
    "metadata": {"ticket": "7"},
}


@each_surface(CHAT, RESPONSES, COMPLETIONS)
async def test_a_vllm_gets_its_own_fields(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """The guard sees by the model list that the engine takes them."""
    async with guarded(tmp_path, models=VLLM) as guard:
        told = await tell(guard, surface, surface.ask(**EXTRAS), stream=stream)
        sent = guard.calls[0].json

    assert told.status == 200
    assert "x-guard-not-applied" not in told.headers
    assert {name: sent[name] for name in EXTRAS} == EXTRAS


@each_surface(CHAT, RESPONSES, COMPLETIONS)
async def test_an_engine_that_is_not_known_gets_none(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """Sampling is left out and named in a header; what an answer cannot do without is a 400."""
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, surface.ask(top_k=40, min_p=0.1), stream=stream)
        sent = guard.calls[0].json
        for name in ("cache_salt", "priority", "chat_template_kwargs"):
            refused = await tell(guard, surface, surface.ask(**{name: EXTRAS[name]}), stream=stream)
            assert (refused.status, name in refused.error) == (400, True)

        assert len(guard.calls) == 1
    assert (told.status, told.headers["x-guard-not-applied"]) == (200, "min_p, top_k")
    assert sent.keys().isdisjoint(EXTRAS)


async def test_the_operator_says_what_an_engine_takes(tmp_path: Path) -> None:
    """With ``engine.extra_fields`` they go on to engines that the guard does not know."""
    async with guarded(tmp_path, engine={"extra_fields": ["top_k", "cache_salt"]}) as guard:
        status, headers, _ = await guard.post(ask(top_k=40, cache_salt="x", min_p=0.1))
        sent = guard.calls[0].json

    assert (status, sent["top_k"], sent["cache_salt"]) == (200, 40, "x")
    assert headers["x-guard-not-applied"] == "min_p"


@each_surface(CHAT, RESPONSES, COMPLETIONS)
async def test_who_asks_stands_in_the_record(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """User, safety identifier, cache key and metadata are the client's words for the auditor."""
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, surface.ask(**LABELS), stream=stream)
        sent = guard.calls[0].json
        record = (await guard.records())[0]

    assert told.status == 200
    assert orjson.loads(record.labels) == LABELS
    assert sent["user"] == "u-1"
    assert sent.keys().isdisjoint(LABELS.keys() - {"user"})


async def test_anthropics_user_id_stands_in_the_record(tmp_path: Path) -> None:
    """The same under its name there; without one there are no labels."""
    body = {"model": "default", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    async with guarded(tmp_path) as guard:
        await guard.post({**body, "metadata": {"user_id": "u-2"}}, "/messages")
        await guard.post(body, "/messages")
        records = await guard.records()

    assert [record.labels for record in records] == ['{"user":"u-2"}', ""]


@pytest.mark.parametrize("stream", [False, True])
async def test_template_options_leave_the_thinking_on(tmp_path: Path, stream: bool) -> None:
    """A switch that is on is accepted, and does not reach the template: the engine's own setting holds."""
    reply = engine_reply()
    options = {"enable_thinking": True}
    async with guarded(tmp_path, lambda request: reply, models=VLLM) as guard:
        told = await tell(guard, CHAT, CHAT.ask(chat_template_kwargs=options), stream=stream)

        assert (told.status, told.text) == (200, "With a whetstone.")
        assert "chat_template_kwargs" not in guard.calls[0].json
