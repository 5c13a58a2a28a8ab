"""An engine that the guard runs itself: started, waited for, watched, restarted, stopped.

    STOPPED ─start→ STARTING ─ready→ READY ─died or sick→ WAITING ─backoff→ STARTING …
                        └─first start fails→ FAILED ←─too many quick deaths─┘

An engine is *sick* when it answers its health check with an error, several times in a row: the
process lives, the worker inside is dead. An engine that does not answer in time is merely busy.

The first request is the guard's own: some engines only make their cache when they are first asked,
and an engine that cannot answer one token is not ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from guard.errors import ApiError, ConfigError, UpstreamTimeout
from guard.upstream.child import Child, last_lines
from guard.upstream.client import Upstream
from guard.upstream.command import EngineSpec, command, environment, free_port

Progress = Callable[[str], None]
"""Told in one line what a starting engine does."""


class EngineState(StrEnum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """It died and will be started again after a pause."""
    FAILED = "failed"
    """It could not be started, or died too often; it stays down until it is started anew."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead engine is started again."""

    first_pause: float = 1.0
    """Seconds before the first restart; doubled with every quick death."""
    longest_pause: float = 30.0
    quick: float = 60.0
    """An engine that was ready for less than this died quickly."""
    quick_deaths: int = 5
    """After so many in a row it stays down."""
    health_interval: float = 5.0
    sick_checks: int = 3
    """Failed health checks in a row after which it is restarted."""


class Engine:
    """One engine process at a fixed address; restarts keep the address."""

    def __init__(
        self,
        spec: EngineSpec,
        *,
        log: Path,
        start_timeout: float = 600.0,
        restarts: RestartPolicy | None = None,
        poll_interval: float = 0.25,
    ) -> None:
        """Choose a port; nothing is started yet.

        Args:
            spec: Which engine, with which model.
            log: Where its output goes; ``start`` begins it anew, restarts append.
            start_timeout: Seconds until it must be ready.
            restarts: When it is started again after it died; the defaults when left out.
            poll_interval: Seconds between two looks at a starting engine.
        """
        self.spec = spec
        self.log = log
        self._port = free_port()
        self._start_timeout = start_timeout
        self._restarts = restarts or RestartPolicy()
        self._poll_interval = poll_interval
        self._upstream = Upstream(self.base_url)
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self.state = EngineState.STOPPED
        self.detail = ""
        """Why it is not ready: what it is doing, or the reason of its end."""
        self.starts = 0
        """How often it was started."""

    @property
    def base_url(self) -> str:
        """Its address, known before it is started."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self, progress: Progress | None = None) -> None:
        """Start it and wait until it has answered its first request.

        Args:
            progress: Told what the engine does meanwhile, as its log says it.

        Raises:
            ConfigError: It did not become ready; the text holds the end of its log.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_bytes(b"")
        except OSError as error:
            raise ConfigError(f"the engine's log {self.log} cannot be written: {error}") from error
        await self._upstream.start()
        try:
            await self._launch(progress or (lambda _: None))
        except ConfigError as error:
            self.state, self.detail = EngineState.FAILED, str(error)
            await self._upstream.close()
            raise
        except BaseException:
            await self.stop()
            raise
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """End it and everything it started; returns when they are gone."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._end_child()
        await self._upstream.close()
        self.state, self.detail = EngineState.STOPPED, ""

    async def _launch(self, progress: Progress) -> None:
        self.state, self.detail = EngineState.STARTING, ""
        self.starts += 1
        line = command(self.spec, self._port)
        try:
            self._child = await Child.start(line, environment(self.spec), self.log)
        except OSError as error:
            raise self._not_ready(f"could not be started: {error}") from error
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._ready(self._child, progress)
        except TimeoutError as error:
            await self._end_child()
            raise self._not_ready(f"was not ready after {self._start_timeout:g} s") from error
        except ApiError as error:
            await self._end_child()
            raise self._not_ready(f"could not answer a first request: {error.message}") from error
        self.state, self.detail = EngineState.READY, ""

    async def _ready(self, child: Child, progress: Progress) -> None:
        ended = asyncio.create_task(child.wait())
        try:
            while not await self._upstream.healthy():
                await asyncio.wait({ended}, timeout=self._poll_interval)
                if ended.done():
                    await self._end_child()
                    raise self._not_ready(f"ended with exit code {ended.result()}")
                self._tell(progress, next(iter(last_lines(self.log, 1)), ""))
            self._tell(progress, "answering a first request")
            await self._first_request()
        finally:
            ended.cancel()

    def _tell(self, progress: Progress, line: str) -> None:
        if line and line != self.detail:
            self.detail = line
            progress(line)

    async def _first_request(self) -> None:
        [model, *_] = await self._upstream.models() or [{}]
        message = {"role": "user", "content": "Hello."}
        body = {"model": model.get("id"), "messages": [message], "max_tokens": 1, "stream": True}
        async for _ in self._upstream.chat(body):
            pass

    def _not_ready(self, what: str) -> ConfigError:
        lines = last_lines(self.log)
        tail = "\n".join(["Its last words:", *(f"  {line}" for line in lines)]) if lines else ""
        return ConfigError(f"the {self.spec.kind} engine {what}. See {self.log}. {tail}".rstrip())

    async def _keep_up(self) -> None:
        """Start the engine again whenever it goes down, until it has died quickly too often."""
        loop = asyncio.get_running_loop()
        policy = self._restarts
        deaths = 0
        ready_since = loop.time()
        while True:
            if self.state is EngineState.READY:
                reason = await self._until_down()
                deaths = deaths + 1 if loop.time() - ready_since < policy.quick else 1
            else:
                reason = self.detail
                deaths += 1
            await self._end_child()
            if deaths >= policy.quick_deaths:
                self.state = EngineState.FAILED
                self.detail = f"it went down {deaths} times in quick succession: {reason}"
                return
            self.state, self.detail = EngineState.WAITING, reason
            await asyncio.sleep(min(policy.first_pause * 2 ** (deaths - 1), policy.longest_pause))
            try:
                await self._launch(lambda _: None)
                ready_since = loop.time()
            except ConfigError as error:
                self.state, self.detail = EngineState.WAITING, str(error)

    async def _until_down(self) -> str:
        """Wait until the engine has ended or is sick; the reason."""
        assert self._child is not None
        ended = asyncio.create_task(self._child.wait())
        sick = 0
        try:
            while True:
                await asyncio.wait({ended}, timeout=self._restarts.health_interval)
                if ended.done():
                    return str(self._not_ready(f"ended with exit code {ended.result()}"))
                sick = sick + 1 if await self._is_sick() else 0
                if sick >= self._restarts.sick_checks:
                    return str(self._not_ready("answers its health checks with errors"))
        finally:
            ended.cancel()

    async def _is_sick(self) -> bool:
        try:
            await self._upstream.probe()
        except UpstreamTimeout:
            return False
        except ApiError as error:
            return error.code != "engine_unreachable"
        return False

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()
