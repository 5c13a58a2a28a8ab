"""Ways past the middleware to the app that it wraps, whose routes all stand open behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Message

from guard.asgi import GuardMiddleware
from tests import guarded as harness
from tests.guarded import POLICY, Guarded, answering, ask, engine_reply, guarded
from tests.scripted import ScriptedApp
from tests.security.wire import exchange, post, status

OWN_CALLS = {"/health", "/v1/models", "/v1/chat/completions"}
"""What the guard itself asks the wrapped app for."""


@pytest.fixture(autouse=True)
def _front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "FRONT", "middleware")


def reached(guard: Guarded) -> set[str]:
    """The paths that the wrapped app was asked for."""
    return {request.path for request in guard.engine.requests}


ROUTES = [
    "/tokenize",
    "/detokenize",
    "/v1/chat/completions/render",
    "/v1/chat/completions/batch",
    "/v1/messages/render",
    "/v1/load_lora_adapter",
    "/v1/audio/transcriptions",
    "/v1/rerank",
    "/v2/embed",
    "/cohere/v2/chat",
    "/inference/v1/generate",
    "/generate",
    "/generative_scoring",
    "/invocations",
    "/adapters",
    "/pooling",
    "/score",
    "/load",
    "/server_info",
    "/update_weights",
    "/collective_rpc",
    "/docs",
    "/static/x.js",
    "/",
    "/engine",
    "/engine/tokenize",
    "/engine/v1/chat/completions",
    "/a/route/of/tomorrow",
]


async def test_no_other_route_of_the_wrapped_app_is_reached(tmp_path: Path) -> None:
    """What is not on the list is 404, whatever the method: also what a later version may bring."""
    async with guarded(tmp_path) as guard:
        root = guard.url.removesuffix("/v1")
        answers = set()
        for path in ROUTES:
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                async with guard.session.request(method, root + path, data=b"{}") as response:
                    answers.add(response.status)

        assert answers == {404}
        assert reached(guard) <= OWN_CALLS


async def test_what_is_let_through_can_only_be_looked_at(tmp_path: Path) -> None:
    """Health, version and metrics of the wrapped app: GET and HEAD, under the names that the docs give."""
    shown = {"/health": "/health", "/ping": "/ping", "/version": "/version", "/engine/metrics": "/metrics"}
    async with guarded(tmp_path) as guard:
        root = guard.url.removesuffix("/v1")
        for path, real in shown.items():
            async with guard.session.get(root + path) as response:
                assert response.status == 200
            assert guard.engine.requests[-1].path == real
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                async with guard.session.request(method, root + path, data=b"{}") as response:
                    assert response.status == 405
        async with guard.session.get(f"{root}/metrics") as response:
            assert "guard_engine_up" in await response.text()

        assert all(
            request.method == "GET" for request in guard.engine.requests if request.path in shown.values()
        )


SPELLINGS = [
    "/health/",
    "//health",
    "/HEALTH",
    "/health/../tokenize",
    "/health%2f..%2ftokenize",
    "/health;/tokenize",
    "/health%00/tokenize",
    "/health\\..\\tokenize",
    "/engine/../tokenize",
    "/engine/metrics/../tokenize",
    "/engine/metrics/tokenize",
    "/engine//metrics",
    "/./tokenize",
    "/v1/../tokenize",
    "/v1/models/../../tokenize",
]


async def test_no_spelling_of_a_path_leads_past(tmp_path: Path) -> None:
    """Dots, slashes, encodings, other letters: the wrapped app is asked for nothing beyond the list."""
    async with guarded(tmp_path) as guard:
        for path in SPELLINGS:
            got = await exchange(guard, post(path, {}))
            assert status(got) in {400, 404, 405}, path
            request = f"GET {path} HTTP/1.1\r\nHost: guard\r\nConnection: close\r\n\r\n"
            assert status(await exchange(guard, request.encode())) in {400, 404}, path

        assert reached(guard) <= OWN_CALLS


async def test_routes_of_both_are_the_guards(tmp_path: Path) -> None:
    """Where both have an endpoint, the wrapped app gets the deliberated call and never the client's own."""
    messages = {"model": "default", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi."}]}
    bodies: dict[str, Any] = {
        "/completions": {"model": "default", "prompt": "Hi."},
        "/responses": {"model": "default", "input": "Hi."},
        "/messages": messages,
        "/chat/completions": ask(),
    }
    async with guarded(tmp_path) as guard:
        for path, body in bodies.items():
            got, _, answer = await guard.post(body, path)
            assert got == 200, answer

        assert reached(guard) <= OWN_CALLS
        systems = [call.json["messages"][0]["content"] for call in guard.calls]
    assert len(systems) == len(bodies)
    assert all(system.startswith("<policy>") for system in systems)


async def test_nothing_of_a_clients_head_gets_to_the_wrapped_app(tmp_path: Path) -> None:
    """Headers that engines act on (adapters, sessions, priorities, keys) end at the guard, like the query."""
    async with guarded(tmp_path) as guard:
        sent = {"X-Amzn-SageMaker-Adapter-Identifier": "mine", "Cookie": "a=b", "X-Request-Id": "me"}
        await guard.post(ask(), "/chat/completions?priority=-9", **sent, Authorization="Bearer theirs")
        headers = guard.calls[0].headers

    assert set(headers) == {"host", "content-type", "content-length", "accept-encoding", "user-agent"}
    assert headers["user-agent"] == "deliberative-guard"


async def called(guard: GuardMiddleware, scope: dict[str, Any], first: Message) -> list[Message]:
    """What comes back for a scope of a server's own making."""
    sent: list[Message] = []

    async def receive() -> Message:
        return first

    async def send(message: Message) -> None:
        sent.append(message)

    await guard({"headers": [], "query_string": b"", "asgi": {"version": "3.0"}, **scope}, receive, send)
    await guard.close()
    return sent


def middleware(folder: Path, **settings: Any) -> tuple[GuardMiddleware, ScriptedApp]:
    """A guard around an app that answers everything."""
    engine = ScriptedApp()
    engine.otherwise(answering(lambda request: engine_reply()))
    audit = {"database": str(folder / "guard.db"), "spill": folder / "spill.jsonl"}
    return GuardMiddleware(engine.asgi, policies=(POLICY,), audit=audit, **settings), engine


async def test_a_websocket_is_closed(tmp_path: Path) -> None:
    """Realtime routes of the wrapped app are not reached either."""
    guard, _ = middleware(tmp_path)

    sent = await called(guard, {"type": "websocket", "path": "/v1/realtime"}, {"type": "websocket.connect"})

    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    ("server", "answered"),
    [
        (("127.0.0.1", 8000), 200),
        (("::1", 8000), 200),
        (("::ffff:127.0.0.1", 8000), 200),
        (("10.0.0.7", 8000), 401),
        (("2001:db8::7", 8000), 401),
        (None, 401),
    ],
)
async def test_without_keys_other_machines_get_no_answer(
    tmp_path: Path, server: tuple[str, int] | None, answered: int
) -> None:
    """The server around it may listen anywhere: without keys, only what came in on loopback is answered."""
    guard, engine = middleware(tmp_path)
    body = orjson.dumps(ask())
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
        "server": server,
        "client": ("127.0.0.1", 1),
    }

    sent = await called(guard, scope, {"type": "http.request", "body": body, "more_body": False})

    assert sent[0]["status"] == answered
    assert ("/v1/chat/completions" in {request.path for request in engine.requests}) is (answered == 200)
