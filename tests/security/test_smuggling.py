"""Paths, headers and framings that mean one thing to the guard and another to what stands around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.keys import hash_key, new_key
from guard.policy.load import load_policy
from tests.guarded import POLICY, ask, guarded
from tests.security.surfaces import SURFACES, Body, Surface, each_surface, tell
from tests.security.wire import exchange, post, status

ONE, TWO = new_key(), new_key()
KEYS: Body = {
    "keys": (
        {"name": "one", "hash": hash_key(ONE), "scopes": ["chat"], "policy": "default"},
        {"name": "two", "hash": hash_key(TWO), "scopes": ["chat"]},
    )
}
POLICY_DIGEST = load_policy(POLICY).digest[:12]


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_other_spellings_of_a_path_are_no_route(tmp_path: Path, surface: Surface) -> None:
    """404, and no redirect to an address that the client's Host header names."""
    path = surface.path
    spellings = [
        f"//v1{path}",
        f"/v1/{path}",
        f"/v1{path}/",
        f"/v1{path}//",
        f"/v1/..{path}",
        f"/v1/../v1{path}",
        f"/./v1{path}",
        f"/v1/.{path}",
        f"/V1{path}",
        f"/v1{path.upper()}",
        f"/v1{path};x=1",
        f"/v1{path}%00",
        f"/v1{path}%20",
        f"/v1{path}%0d%0aX: y",
        f"/v1%252f{path[1:]}",
        f"/v1\\{path[1:]}",
        f"/guard/v1{path}",
        f"/metrics/..%2fv1{path}",
    ]
    async with guarded(tmp_path) as guard:
        for spelling in spellings:
            back = await exchange(guard, post(spelling, surface.ask()))
            assert status(back) in {400, 404}, (spelling, back)
            assert b"location:" not in back.lower()

        assert guard.calls == []


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_an_encoded_path_is_the_same_route_deliberated(tmp_path: Path, surface: Surface) -> None:
    """Percent-encoded letters and slashes, a query and a whole address lead to the guard's own endpoint."""
    letters = "".join(f"%{ord(c):02x}" for c in surface.path[1:])
    spellings = [
        f"/v1%2f{surface.path[1:]}",
        f"/v1/{letters}",
        f"/v1{surface.path}?policy=none&stream=true",
        f"http://elsewhere.example/v1{surface.path}",
    ]
    async with guarded(tmp_path) as guard:
        for number, spelling in enumerate(spellings, start=1):
            back = await exchange(guard, post(spelling, surface.ask()))
            assert status(back) == 200, (spelling, back)
            assert len(await guard.records()) == number
        prompts = [call.json["messages"][0]["content"] for call in guard.calls]

    assert all(prompt.startswith("<policy>") for prompt in prompts)


FRAMINGS = {
    "two lengths": (["Content-Length: 5"], True),
    "a length and chunks": (["Transfer-Encoding: chunked"], True),
    "chunks twice": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], False),
    "an unknown coding": (["Transfer-Encoding: xchunked"], False),
    "a negative length": (["Content-Length: -1"], False),
    "a length in hex": (["Content-Length: 0x10"], False),
    "a length with a sign": (["Content-Length: +10"], False),
    "a list of lengths": (["Content-Length: 10, 10"], False),
    "a folded header": (["X: a\r\n b: c"], True),
    "a space before the colon": (["Content-Length : 10"], False),
    "a header without a colon": (["nonsense"], True),
    "a zero byte in a header": (["X-A: a\x00b"], True),
}


@pytest.mark.parametrize(("headers", "length"), FRAMINGS.values(), ids=FRAMINGS)
async def test_a_request_of_doubtful_length_is_not_answered(
    tmp_path: Path, headers: list[str], length: bool
) -> None:
    """What two servers could cut differently is dropped, with what could be a second request in it."""
    hidden = post("/v1/chat/completions", ask("HIDDEN"), f"Authorization: Bearer {TWO}")
    sent = post("/v1/chat/completions", b"0\r\n\r\n" + hidden, *headers, length=length)
    async with guarded(tmp_path, **KEYS) as guard:
        back = await exchange(guard, sent, wait=0.5)
        calls = [call.body for call in guard.calls]

    assert status(back) in {0, 400, 401}, back
    assert calls == []


async def test_each_request_of_a_connection_needs_its_own_key(tmp_path: Path) -> None:
    """A request that is sent along behind another one is not let in by the first one's key."""
    first = post("/v1/chat/completions", ask("First"), f"Authorization: Bearer {ONE}")
    second = post("/v1/chat/completions", ask("Second"), "Connection: close")
    async with guarded(tmp_path, **KEYS) as guard:
        await exchange(guard, first + second)
        records = await guard.records()

    assert [record.tenant for record in records] == ["one"]
    assert "Second" not in records[0].messages


@each_surface()
async def test_two_keys_are_none(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """A header that comes twice is refused, whichever of the two a proxy in front has checked."""
    body = surface.ask() | ({"stream": True} if stream else {})
    async with guarded(tmp_path, **KEYS) as guard:
        for headers in (
            [f"Authorization: Bearer {ONE}", f"Authorization: Bearer {TWO}"],
            [f"Authorization: Bearer {ONE}", "authorization: Bearer wrong"],
            [f"x-api-key: {ONE}", f"X-API-Key: {TWO}"],
            [f"Authorization: Bearer {ONE}, Bearer {TWO}"],
            ["Authorization: Basic b25lOnR3bw=="],
            [f"Authorization: Bearer{ONE}"],
            [f"Proxy-Authorization: Bearer {ONE}"],
            [f"Cookie: authorization=Bearer {ONE}"],
            ["Authorization: Bearer null", "x-api-key: "],
            [],
        ):
            back = await exchange(guard, post(f"/v1{surface.path}", body, *headers))
            assert status(back) == 401, headers

        assert guard.calls == []


@each_surface()
async def test_no_header_loosens_anything(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """Headers that say who asks, what was decided or what to do are not read from requests."""
    loosening = {
        "x-guard-decision": "comply",
        "x-guard-mode": "observe",
        "x-guard-enforcement": "off",
        "x-guard-request-id": "forged",
        "x-request-id": "forged",
        "x-guard-tenant": "admin",
        "x-guard-scopes": "admin,reasoning",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-user": "admin",
        "x-forwarded-prefix": "/admin",
        "x-original-url": "/healthz",
        "x-rewrite-url": "/healthz",
        "x-http-method-override": "GET",
        "forwarded": "for=127.0.0.1;host=localhost",
        "openai-organization": "admin",
        "anthropic-beta": "interleaved-thinking-2025-05-14",
        "x-stainless-raw-response": "true",
    }
    async with guarded(tmp_path, **KEYS) as guard:
        told = await tell(
            guard, surface, surface.ask(), stream=stream, authorization=f"Bearer {TWO}", **loosening
        )
        record = (await guard.records())[0]
        sent = guard.calls[0].headers

    assert told.status == 200
    assert told.headers["x-guard-request-id"] == record.request_id != "forged"
    assert (record.tenant, record.policy_digest[:12]) == ("two", POLICY_DIGEST)
    assert sent.keys().isdisjoint(loosening)
    assert "authorization" not in sent


@each_surface()
async def test_a_bound_key_cannot_choose_its_policy(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """A header, a second header, a query and a field that name another policy are refused or mean nothing."""
    other = tmp_path / "other"
    other.mkdir()
    for file in POLICY.iterdir():
        text = file.read_text(encoding="utf-8")
        (other / file.name).write_text(text.replace("name: default", "name: lax"), encoding="utf-8")
    async with guarded(tmp_path, policies=(POLICY, other), **KEYS) as guard:
        bound = await tell(
            guard,
            surface,
            surface.ask(),
            stream=stream,
            authorization=f"Bearer {ONE}",
            **{"x-guard-policy": "lax"},
        )
        field = await tell(guard, surface, surface.ask(policy="lax"), authorization=f"Bearer {ONE}")
        free = await tell(
            guard,
            surface,
            surface.ask(),
            stream=stream,
            authorization=f"Bearer {TWO}",
            **{"x-guard-policy": "lax"},
        )

    assert (bound.status, field.status, free.status) == (404, 400, 200)
    assert "lax" not in bound.error.partition("Available")[2]
    assert free.headers["x-guard-policy"].startswith("lax@")


async def test_another_protocol_is_not_spoken(tmp_path: Path) -> None:
    """No WebSocket, no HTTP/2 by upgrade, no tunnel: none of them reaches an engine."""
    upgrades = [
        b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT engine:8000 HTTP/1.1\r\nHost: engine:8000\r\n\r\n",
        b"TRACE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    async with guarded(tmp_path) as guard:
        for sent in upgrades:
            back = await exchange(guard, sent, wait=0.5)
            assert status(back) not in {101, 200}, (sent, back)

        assert guard.calls == []
