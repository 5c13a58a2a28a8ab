"""The only wiring: settings in, a running service out.

Everything is built here and passed to what needs it. ``running`` opens and closes in order; ``create_app``
maps routes onto the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.routing import Route

from guard.api.admin import get_record, list_policies, list_records, reload_policy
from guard.api.chat import chat_completions
from guard.api.completions import completions
from guard.api.embeddings import embeddings
from guard.api.endpoint import Endpoint, GuardApp
from guard.api.errors import EXCEPTION_HANDLERS
from guard.api.health import healthz, metrics, readyz
from guard.api.litellm_guardrail import litellm_guardrail
from guard.api.messages import count_tokens, messages
from guard.api.models import get_model, list_models
from guard.api.moderations import moderations
from guard.api.openapi import openapi
from guard.api.responses import (
    cancel_response,
    create_response,
    delete_response,
    get_response,
    list_input_items,
)
from guard.api.state import RequestLimits, Service, ServiceStatus
from guard.audit.interruption import mark_old_streams
from guard.audit.policies import PolicyKeeper
from guard.audit.record import Record
from guard.audit.responses import ResponseStore
from guard.audit.store import AuditStore
from guard.audit.writer import AuditWriter
from guard.config import Settings
from guard.engine import EngineLink, EngineState
from guard.errors import AuditError, ConfigError
from guard.keys import KeyRing
from guard.metrics import Metrics
from guard.pipeline.pipeline import Pipeline
from guard.policy.load import default_policy_folder
from guard.retrieval.dense import StaticEncoder
from guard.rollout.active import ActivePolicy, ReloadResult
from guard.upstream.in_process import WrappedApp

REASONING_FIELDS = {
    "reasoning": ("reasoning",),
    "reasoning_content": ("reasoning_content",),
    "both": ("reasoning", "reasoning_content"),
    "none": (),
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Running:
    """A service, and the engine whose start can be waited for."""

    service: Service
    engine: EngineLink
    database: str
    """Where the records go, without any secret."""


def create_app(service: Service) -> Starlette:
    """The ASGI app of a running service."""
    direct = {
        "/v1/chat/completions": Endpoint(chat_completions),
        "/v1/completions": Endpoint(completions),
        "/v1/messages": Endpoint(messages),
        "/v1/responses": Endpoint(create_response),
        "/v1/moderations": Endpoint(moderations),
        "/v1/embeddings": Endpoint(embeddings),
        "/beta/litellm_basic_guardrail_api": Endpoint(litellm_guardrail),
    }
    app = GuardApp(
        direct,
        routes=[
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in direct.items()),
            Route("/v1/responses/{response_id}", get_response, methods=["GET"]),
            Route("/v1/responses/{response_id}", delete_response, methods=["DELETE"]),
            Route("/v1/responses/{response_id}/cancel", cancel_response, methods=["POST"]),
            Route("/v1/responses/{response_id}/input_items", list_input_items, methods=["GET"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/v1/models/{name:path}", get_model),
            Route("/guard/v1/records", list_records),
            Route("/guard/v1/records/{id}", get_record),
            Route("/guard/v1/policies", list_policies),
            Route("/guard/v1/policies/{name}/reload", reload_policy, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.router.redirect_slashes = False  # to an address made from the Host header
    app.state.service = service
    return app


@asynccontextmanager
async def running(
    settings: Settings, encoder: StaticEncoder | None = None, wrapped: WrappedApp | None = None
) -> AsyncIterator[Running]:
    """Open everything a service needs; close it in reverse order.

    Args:
        settings: All of them.
        encoder: The embeddings that retrieval uses, where they are loaded already.
        wrapped: The engine, where it is an app in this process.

    Raises:
        PolicyError: A policy folder cannot be used.
        AuditError: The database cannot be opened.
        ConfigError: Policies and keys do not fit together, or the engine is misconfigured.
    """
    async with AsyncExitStack() as stack:
        meters = Metrics()
        policies = load_policies(settings, encoder or StaticEncoder.load())
        store = await AuditStore.open(settings.audit.database, upgrade=False)
        stack.push_async_callback(store.close)
        writer = AuditWriter(
            store,
            mode=settings.audit.mode,
            max_pending=settings.audit.max_pending,
            spill_path=settings.audit.spill,
            on_batch=lambda seconds, _: meters.audit_batch.observe(seconds),
        )
        await writer.start()
        stack.push_async_callback(writer.close)
        keeper = PolicyKeeper(store)
        for active in policies.values():
            await _enter_policy(active, store, keeper, meters)
        _until_closed(stack, keeper.retry())
        link = EngineLink(settings.engine, settings.limits, meters.engine_up.set, wrapped)
        await link.start()
        stack.push_async_callback(link.stop)
        pipeline = Pipeline(
            link,
            settings.enforcement.build(),
            _MeteredWriter(writer, meters),
            settings.retrieval.spec,
            settings.retrieval_limits(),
        )
        for active in policies.values():
            await _watch_policy(stack, active)
        meters.show_audit(writer)
        limits = settings.limits
        responses = ResponseStore(store)
        _until_closed(stack, responses.retain(limits.response_days))
        _until_closed(stack, mark_old_streams(store, settings.longest_choice()))
        service = Service(
            keys=KeyRing(settings.callers()),
            policies=policies,
            pipeline=pipeline,
            records=store,
            responses=responses,
            models=lambda: link.models,
            post_json=link.post_json,
            limits=RequestLimits(
                limits.body_bytes,
                limits.body_seconds,
                limits.choices,
                limits.messages,
                limits.max_answer_tokens,
            ),
            reasoning_fields=REASONING_FIELDS[settings.reasoning_output],
            ping_seconds=settings.ping_seconds,
            metrics=meters,
            status=lambda: _status(policies, link, writer),
        )
        yield Running(service, link, store.location)


def load_policies(settings: Settings, encoder: StaticEncoder) -> dict[str, ActivePolicy]:
    """Every configured policy by name, in order.

    Raises:
        PolicyError: A folder is not a usable policy.
        ConfigError: Two share a name, or a key is bound to one that is not served.
    """
    policies: dict[str, ActivePolicy] = {}
    for folder in settings.policies or (default_policy_folder(),):
        active = ActivePolicy(folder, encoder)
        if active.name in policies:
            raise ConfigError(
                f"policies: {folder} and {policies[active.name].folder} are both {active.name!r}"
            )
        policies[active.name] = active
    for key in settings.keys:
        if key.policy is not None and key.policy not in policies:
            raise ConfigError(f"keys: {key.name!r} is bound to policy {key.policy!r}, which is not served")
    return policies


class _MeteredWriter:
    """Counts what is written."""

    def __init__(self, writer: AuditWriter, meters: Metrics) -> None:
        self._writer = writer
        self._meters = meters

    async def write(self, record: Record) -> None:
        self._meters.observe(record)
        await self._writer.write(record)

    def keep(self, record: Record) -> None:
        self._meters.observe(record)
        self._writer.keep(record)


async def _enter_policy(
    active: ActivePolicy, store: AuditStore, keeper: PolicyKeeper, meters: Metrics
) -> None:
    """Show the version that is in force, remember the ones before it, store it."""
    policy = active.snapshot.policy
    meters.show_policy(policy)
    try:
        active.remember([old for old in await store.policies(active.name) if old.digest != policy.digest])
    except AuditError as error:
        log.error("earlier policy versions unknown", policy=policy.name, reason=str(error))
    await keeper.keep(policy)

    async def reloaded(result: ReloadResult) -> None:
        meters.reloads.labels(active.name, "changed" if result.changed else "rejected").inc()
        if result.changed:
            meters.show_policy(active.snapshot.policy)
            await keeper.keep(active.snapshot.policy)

    active.tell(reloaded)


async def _watch_policy(stack: AsyncExitStack, active: ActivePolicy) -> None:
    """Reload the policy whenever its files change, until the stack is closed."""
    stop = asyncio.Event()
    task = asyncio.create_task(active.watch(stop))

    async def end() -> None:
        stop.set()
        await task

    stack.push_async_callback(end)


def _until_closed(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run work beside the service; it is cancelled when the stack is closed."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])

    stack.push_async_callback(end)


def _status(policies: Mapping[str, ActivePolicy], link: EngineLink, writer: AuditWriter) -> ServiceStatus:
    """Ready when the engine answers; a rejected policy edit or a struggling audit is shown beside it."""
    detail: dict[str, object] = {
        "engine": {"state": link.state.value, **({"detail": link.detail} if link.detail else {})},
        "policies": {
            name: {
                "digest": active.snapshot.policy.digest[:12],
                "version": active.snapshot.policy.version,
                **({"rejected_edit": list(active.problems)} if active.problems else {}),
            }
            for name, active in policies.items()
        },
        "audit": {
            "pending": writer.pending,
            "spilled": writer.backlog,
            "rejected": writer.rejected,
            "dropped": writer.dropped,
            "available": writer.available,
            **({"last_error": writer.last_error} if writer.last_error else {}),
        },
    }
    return ServiceStatus(link.state is EngineState.UP, detail)
