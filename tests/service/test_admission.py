"""Requests that cannot be honoured: each a clear error in OpenAI's shape, none an answer."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.guarded import ask, guarded


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"", 400, None),
        (b"{not json", 400, None),
        (b"[]", 400, None),
        (b'{"model": "default"}', 400, "messages"),
        (b'{"model": "default", "messages": ' + b"[" * 2000 + b"]" * 2000 + b"}", 400, None),
        (ask(model="gpt-unknown"), 404, "model"),
        (ask(messages=[]), 400, "messages"),
        (ask(messages="hi"), 400, "messages"),
        (ask(messages=[{"role": "wizard", "content": "hi"}]), 400, "messages.0"),
        (ask(messages=[{"role": "user"}]), 400, "messages.0.content"),
        (ask(messages=[{"role": "user", "content": 7}]), 400, "messages.0.content"),
        (ask(messages=[{"role": "user", "content": "x", "extra": 1}]), 400, "messages.0.extra"),
        (ask(n=0), 400, "n"),
        (ask(n=9), 400, "n"),
        (ask(max_tokens=0), 400, "max_tokens"),
        (ask(max_tokens=10**9), 400, "max_tokens"),
        (ask(max_completion_tokens=10**9), 400, "max_completion_tokens"),
        (ask(temperature=3), 400, "temperature"),
        (ask(temprature=1), 400, "temprature"),
        (ask(stream_options={"include_usage": True}), 400, "stream_options"),
        (ask(tool_choice="required"), 400, "tool_choice"),
        (ask(response_format={"type": "yaml"}), 400, "response_format"),
        (ask(chat_template_kwargs={"enable_thinking": False}), 400, "chat_template_kwargs"),
        (ask(continue_final_message=True), 400, "continue_final_message"),
        (ask(echo=True), 400, "echo"),
        (ask(prompt_logprobs=1), 400, "prompt_logprobs"),
        (ask(return_token_ids=True), 400, "return_token_ids"),
        (ask(logit_bias={"50256": -100}), 400, "logit_bias"),
        (ask(top_logprobs=1), 400, "top_logprobs"),
        (ask(logprobs=True, top_logprobs=21), 400, "top_logprobs"),
        (ask(reasoning_effort="none"), 400, "reasoning_effort"),
        (ask(store=True), 400, "store"),
    ],
)
async def test_bad_requests_name_the_field(tmp_path: Path, body: Any, status: int, param: str | None) -> None:
    """Each bad request gets its status, the field's name, and reaches neither engine nor records.

    Field lesson 31: fields were dropped with a 200, or failed without a name.
    """
    async with guarded(tmp_path) as guard:
        got, _, error = await guard.post(body)
        await_nothing = (guard.calls, await guard.records())

    assert got == status, error
    assert error["error"].keys() == {"message", "type", "param", "code"}
    assert (error["error"]["param"] or "").startswith(param or "")
    assert (error["error"]["param"] is None) == (param is None)
    assert await_nothing == ([], [])


async def test_harmless_defaults_of_clients_are_accepted(tmp_path: Path) -> None:
    """Fields that SDKs send with values that ask for nothing are no reason to refuse."""
    async with guarded(tmp_path) as guard:
        status, _, body = await guard.post(
            ask(store=False, logprobs=False, logit_bias={}, stream=None, stop=None, n=None, tools=None)
        )

    assert status == 200, body


async def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    """The message lists every field at fault."""
    async with guarded(tmp_path) as guard:
        _, _, error = await guard.post(ask(temperature=3, n=0, topp=1))

    assert all(name in error["error"]["message"] for name in ("temperature", "n:", "topp"))


async def test_an_oversize_body_is_413(tmp_path: Path) -> None:
    """A body over the limit is refused whether or not it declares its length."""
    big = orjson.dumps(ask("x" * 3000))

    async def pieces() -> Any:
        for start in range(0, len(big), 500):
            yield big[start : start + 500]

    async with guarded(tmp_path, limits={"body_bytes": 2048}) as guard:
        declared, _, _ = await guard.post(big)
        async with guard.session.post(f"{guard.url}/chat/completions", data=pieces()) as response:
            undeclared = response.status

    assert (declared, undeclared) == (413, 413)


async def test_compressed_bodies_are_refused(tmp_path: Path) -> None:
    """A compressed bomb is never unpacked."""
    async with guarded(tmp_path) as guard:
        status, _, _ = await guard.post(gzip.compress(orjson.dumps(ask())), **{"content-encoding": "gzip"})

    assert status == 400


async def test_an_unknown_policy_is_404_with_a_list(tmp_path: Path) -> None:
    """A policy that is not served is refused, naming those that are.

    Field lesson 58: an unknown guard was an arcane 500.
    """
    async with guarded(tmp_path) as guard:
        status, _, error = await guard.post(ask(), **{"x-guard-policy": "other"})

    assert status == 404
    assert "default" in error["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/chat/completions", 405), ("POST", "/v1/tokenize", 404)]
)
async def test_unknown_routes_answer_in_openais_shape(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    """No engine route shines through, and errors look alike everywhere."""
    async with guarded(tmp_path) as guard:
        url = guard.url.removesuffix("/v1") + path
        async with guard.session.request(method, url, data=b"{}") as response:
            got, body = response.status, await response.json()

    assert got == status
    assert body["error"].keys() == {"message", "type", "param", "code"}
