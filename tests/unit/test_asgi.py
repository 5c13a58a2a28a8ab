"""The middleware's own part: settings, start, stop. Its endpoints are those of tests/service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from guard.asgi import CONFIG_VARIABLE, GuardMiddleware
from guard.errors import ConfigError
from tests.guarded import POLICY, answering, ask, engine_reply, serving
from tests.scripted import ReceivedRequest, Reply, ScriptedApp


def settings(folder: Path, **overrides: Any) -> dict[str, Any]:
    """Settings of a guard that writes nowhere else."""
    audit = {"database": str(folder / "guard.db"), "spill": folder / "spill.jsonl"}
    return {"policies": (POLICY,), "audit": audit, **overrides}


@pytest.fixture(name="engine")
def _engine() -> ScriptedApp:
    engine = ScriptedApp()
    engine.otherwise(answering(lambda request: engine_reply()))
    return engine


async def chat(url: str, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    """Status and body of one chat."""
    async with aiohttp.ClientSession() as session, session.post(url + path, json=ask()) as response:
        return response.status, await response.json()


async def test_a_file_named_by_the_environment_configures_it(
    engine: ScriptedApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server constructs it with nothing but the app, as vLLM does, GUARD_CONFIG names the file."""
    file = tmp_path / "guard.toml"
    file.write_text(
        f'policies = ["{POLICY}"]\nreasoning_output = "reasoning"\n'
        f'[audit]\ndatabase = "{tmp_path}/guard.db"\nspill = "{tmp_path}/spill.jsonl"\n'
    )
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    engine.asgi.add_middleware(GuardMiddleware)
    async with serving(engine.asgi, lifespan="on") as url:
        _, body = await chat(url)

    message = body["choices"][0]["message"]
    assert "reasoning" in message
    assert "reasoning_content" not in message


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"engine": {"upstream": "http://127.0.0.1:8000"}}, "the app that it wraps"),
        ({"polices": ()}, "polices"),
        ({"policies": (Path("/nowhere"),)}, "/nowhere"),
        ({"passed": ("tokenize",)}, "passed"),
    ],
)
async def test_a_mistake_in_the_settings_stops_the_server(
    engine: ScriptedApp, tmp_path: Path, wrong: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server does not start, and its log has the reason."""
    guard = GuardMiddleware(engine.asgi, **{**settings(tmp_path), **wrong})
    server = uvicorn.Server(uvicorn.Config(guard, lifespan="on", log_config=None, port=0))
    with suppress(SystemExit):  # uvicorn's way from 0.50 on
        await server.serve()

    assert not server.started
    assert told in caplog.text
    assert engine.requests == []


async def test_without_a_lifespan_it_starts_with_the_first_request(
    engine: ScriptedApp, tmp_path: Path
) -> None:
    """Requests that come at once find one guard, and the first of them is answered; close stops it."""
    guard = GuardMiddleware(engine.asgi, **settings(tmp_path))
    async with serving(guard, lifespan="off") as url:
        answers = await asyncio.gather(*(chat(url) for _ in range(5)))
    await guard.close()

    assert [status for status, _ in answers] == [200] * 5
    assert not list(tmp_path.glob("guard.db-wal"))


async def test_without_a_lifespan_a_mistake_fails_every_request(engine: ScriptedApp, tmp_path: Path) -> None:
    """Nothing reaches the wrapped app past a guard that cannot start."""
    guard = GuardMiddleware(engine.asgi, **settings(tmp_path, polices=()))
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}

    for _ in range(2):
        with pytest.raises(ConfigError, match="polices"):
            await guard(scope, _never, _never)
    assert engine.requests == []


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is received or sent")


async def test_the_wrapped_apps_key_is_sent_with_every_call(
    engine: ScriptedApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app with a key of its own, such as vLLM with --api-key, gets it from the guard."""
    monkeypatch.setenv("ENGINE_KEY", "its-own")
    with_key = settings(tmp_path, engine={"upstream_key_env": "ENGINE_KEY"})
    async with serving(GuardMiddleware(engine.asgi, **with_key), lifespan="on") as url:
        await chat(url)

    assert {request.headers.get("authorization") for request in engine.requests} == {"Bearer its-own"}


async def test_it_works_below_another_app(engine: ScriptedApp, tmp_path: Path) -> None:
    """Mounted under a path, guard and wrapped app are both found there."""
    guard = GuardMiddleware(engine.asgi, **settings(tmp_path))
    outer = Starlette()
    outer.mount("/llm", guard)
    async with serving(outer, lifespan="on") as url:
        status, body = await chat(url, "/llm/v1/chat/completions")
    await guard.close()

    assert status == 200, body
    assert engine.requests[-1].path == "/llm/v1/chat/completions"


async def test_it_lives_within_the_lifespan_of_the_wrapped_app(tmp_path: Path) -> None:
    """The app is called neither before it has started nor once it stops, and sees what its start made."""
    seen: list[str] = []
    engine = ScriptedApp()

    def reply(request: ReceivedRequest) -> Reply:
        seen.append(request.path)
        return answering(lambda request: engine_reply())(request)

    engine.otherwise(reply)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        await asyncio.sleep(0.05)
        seen.append("started")
        yield {"weights": "loaded"}
        seen.append("stopping")
        await asyncio.sleep(0.05)

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan" or scope["state"]["weights"] == "loaded"
        await engine.asgi(scope, receive, send)

    engine.asgi.router.lifespan_context = lifespan
    async with serving(GuardMiddleware(checked, **settings(tmp_path)), lifespan="on") as url:
        status, _ = await chat(url)

    assert status == 200
    assert (seen[0], seen[-1]) == ("started", "stopping")
    assert "/v1/chat/completions" in seen
