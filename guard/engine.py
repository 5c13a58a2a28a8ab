"""The engine as the service sees it: connected to, watched, described.

Requests go straight to the HTTP client; this only says 503 while there is no engine yet, and keeps
asking whether there is one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import structlog

from guard.config import EngineSettings, LimitSettings
from guard.errors import ApiError, ConfigError, Overloaded
from guard.pipeline.abilities import EXTRAS
from guard.pipeline.exchange import Constrained, EngineProfile
from guard.upstream.capabilities import CAPABILITIES
from guard.upstream.client import Upstream
from guard.upstream.command import EngineSpec
from guard.upstream.context import ContextLimit
from guard.upstream.engine import Engine
from guard.upstream.in_process import InProcessUpstream, WrappedApp
from guard.upstream.stream import ChunkStream

EMBEDDED_ANSWER_TOKENS = 512
"""Answer tokens on an engine that would otherwise run to the end of its context."""

POLL_SECONDS = 2.0
"""How often the engine is asked whether it is well."""

log = structlog.get_logger(__name__)


class EngineState(StrEnum):
    """Whether the engine can be asked."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    """It was up before; requests are still tried, since it may be back before the next poll."""
    FAILED = "failed"
    """It will not come up by itself."""


class EngineLink:
    """One engine, somebody's server, a child process or the app around us, behind one client."""

    def __init__(
        self,
        settings: EngineSettings,
        limits: LimitSettings,
        show: Callable[[bool], None],
        wrapped: WrappedApp | None = None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            settings: Which engine.
            limits: Token budgets, which become part of its profile.
            show: Told whether the engine is up, whenever it was asked.
            wrapped: The engine, where it is an app in this process.

        Raises:
            ConfigError: The model card or the engine's key is missing or unreadable.
        """
        self._settings = settings
        self._show = show
        self._child = _child(settings)
        self._context = _context(settings)
        self._upstream = _upstream(settings, self._child, wrapped)
        self._profile = EngineProfile(
            model=settings.model or "",
            thinking_opened=settings.thinking_opened,
            thinking_tokens=limits.thinking_tokens,
            answer_tokens=limits.answer_tokens or (EMBEDDED_ANSWER_TOKENS if self._context else None),
            learnt=read_card(settings.card) if settings.card else frozenset(),
        )
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self.state = EngineState.STARTING
        self.detail = ""
        """What the engine does while it starts, or why it failed."""

    @property
    def profile(self) -> EngineProfile:
        """What the engine can do."""
        return self._profile

    @property
    def models(self) -> tuple[str, ...]:
        """Names under which its model is offered: ``default``, and its own without any path."""
        return _offered(self._profile.model)

    async def stream(self, body: Mapping[str, Any]) -> ChunkStream:
        """Send a chat completion request; its caller reads the answer and closes it.

        Raises:
            Overloaded: The engine has not come up yet.
            InvalidRequest: The prompt is longer than the context, and the engine would not say so.
            ApiError: As the client maps the engine's errors.
        """
        self._check_up()
        return await self._upstream.stream(self._context.fit(body) if self._context else body)

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request that no policy is about, and return the engine's JSON.

        Args:
            path: Below ``/v1``.
            body: Its ``model``, where named as the guard offers it, is named as the engine calls it.

        Raises:
            ApiError: As for ``stream``, and as the client maps the engine's errors.
        """
        self._check_up()
        model = self._profile.model if body.get("model") in self.models else body.get("model")
        return await self._upstream.post_json(path, {**body, "model": model})

    def _check_up(self) -> None:
        if not self._up.is_set():
            message = f"The engine is {self.state.value}. Try again in a few seconds."
            raise Overloaded(message, code="engine_not_ready", retry_after=5)

    async def start(self) -> None:
        """Begin to start or to look for the engine; returns at once."""
        await self._upstream.start()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching, and a child engine with it."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._upstream.close()
        if self._child:
            await self._child.stop()

    async def wait_up(self) -> None:
        """Wait until the engine answers for the first time.

        Raises:
            ConfigError: It failed to start; the text says why.
        """
        assert self._task is not None
        up = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._task.done():
            self._task.result()

    async def _watch(self) -> None:
        if self._child:
            try:
                await self._child.start(self._progress)
            except ConfigError as error:
                self.state, self.detail = EngineState.FAILED, str(error)
                raise
        while True:
            healthy = await self._upstream.healthy()
            if healthy and not self._up.is_set():
                healthy = await self._describe()
            if healthy:
                self._up.set()
            if healthy or self._up.is_set():
                self._enter(EngineState.UP if healthy else EngineState.DOWN)
            if self._child and not healthy:
                self.detail = self._child.detail
            self._show(healthy)
            await asyncio.sleep(POLL_SECONDS)

    def _enter(self, state: EngineState) -> None:
        if state is not self.state:
            self.state, self.detail = state, ""
            log.info("engine", state=state.value, url=self._upstream.base_url)

    def _progress(self, text: str) -> None:
        self.detail = text

    async def _describe(self) -> bool:
        """Complete the profile with what the running engine says of itself."""
        try:
            models = await self._upstream.models()
        except ApiError as error:
            self.detail = error.message
            return False
        vllm = any(model.get("owned_by") == "vllm" for model in models)
        self._profile = _completed(self._profile, self._settings, models, vllm=vllm)
        return True


@lru_cache(maxsize=8)
def _offered(model: str) -> tuple[str, ...]:
    """The names of a model, asked for by every request."""
    own = Path(model).name
    return ("default", own) if own and own != "default" else ("default",)


def _completed(
    profile: EngineProfile, settings: EngineSettings, models: list[dict[str, Any]], *, vllm: bool
) -> EngineProfile:
    """The profile with the model's name and the engine's abilities filled in."""
    listed = [str(model.get("id", "")) for model in models]
    constrained = settings.constrained
    if constrained is None:
        constrained = _constrained(settings, vllm=vllm)
    model = profile.model
    if settings.kind or not model:  # a child lists the one model it was started with
        model = next(iter(listed), model or "default")
    return replace(
        profile,
        model=model,
        constrained=constrained,
        running_usage=vllm,
        lacks=_lacks(settings, vllm=vllm),
    )


def _lacks(settings: EngineSettings, *, vllm: bool) -> frozenset[str]:
    """Fields that the engine does not take.

    An engine that is not known may drop a field that OpenAI does not have without a word, so it gets
    none unless the operator says that it takes it.
    """
    kind = settings.kind or ("vllm" if vllm else None)
    lacks = EXTRAS if kind is None else CAPABILITIES[kind].lacks
    return lacks - settings.extra_fields


def _constrained(settings: EngineSettings, *, vllm: bool) -> Constrained:
    """How grammars and thinking go together on this engine, unless the operator says.

    Without a reasoning parser an engine would apply a grammar from the first token, where the
    thinking belongs. Of an engine that somebody else runs the guard assumes that it has one, unless
    its completions begin inside the thinking, which is a sign of none: a schema could then write the
    thinking.
    """
    if any(arg.startswith("--reasoning-parser") for arg in settings.args):
        return Constrained.AFTER_THINKING
    if settings.kind is None and not settings.thinking_opened:
        return Constrained.AFTER_THINKING
    kind = settings.kind or ("vllm" if vllm else None)
    if kind is None:
        return Constrained.UNSUPPORTED
    able = CAPABILITIES[kind]
    return (
        Constrained.CONTINUED
        if able.structured_outputs and able.continue_final_message
        else Constrained.UNSUPPORTED
    )


def read_card(path: Path) -> frozenset[str]:
    """Digests of the sections that a model learnt, from its ``model-card.json``.

    Raises:
        ConfigError: The file is not such a card.
    """
    try:
        card = orjson.loads(path.read_bytes())
        return frozenset(str(digest) for digest in card["sections"].values())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: is no model card: it needs an object 'sections' of section id to digest"
        ) from error


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(f"engine.upstream_key_env: the environment variable {variable} is not set")
    return value


def _upstream(settings: EngineSettings, child: Engine | None, wrapped: WrappedApp | None) -> Upstream:
    """The client of whichever it is."""
    api_key = _secret(settings.upstream_key_env)
    if wrapped is not None:
        return InProcessUpstream(
            wrapped,
            api_key=api_key,
            first_byte_timeout=settings.first_byte_timeout,
            idle_timeout=settings.idle_timeout,
            total_timeout=settings.total_timeout,
        )
    return Upstream(
        child.base_url if child else settings.upstream or "",
        api_key=api_key,
        connect_timeout=settings.connect_timeout,
        first_byte_timeout=settings.first_byte_timeout,
        idle_timeout=settings.idle_timeout,
        total_timeout=settings.total_timeout,
    )


def _child(settings: EngineSettings) -> Engine | None:
    """The engine to start, where one is configured."""
    if settings.kind is None:
        return None
    spec = EngineSpec(
        kind=settings.kind,
        model=settings.model or "",
        python=str(settings.python or sys.executable),
        args=settings.args,
    )
    if not Path(spec.model).is_dir() and Path(spec.model).is_absolute():
        raise ConfigError(f"engine.model: there is no folder {spec.model}")
    return Engine(spec, log=settings.log, start_timeout=settings.start_timeout)


def _context(settings: EngineSettings) -> ContextLimit | None:
    """What keeps requests within the context, for a child engine that does not."""
    if settings.kind is None or CAPABILITIES[settings.kind].enforces_context:
        return None
    return ContextLimit.of_checkpoint(Path(settings.model or ""))
