"""The life of one exchange: snapshot, retrieve, compose, then run its choices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Protocol

import structlog

from guard.audit.record import Record
from guard.errors import AuditError, InvalidRequest
from guard.pipeline.choice import ChatEngine, Choice, RecordWriter
from guard.pipeline.enforcement import Enforcement
from guard.pipeline.events import Event
from guard.pipeline.exchange import Constrained, EngineProfile, Exchange, Prepared, RetrievalLimits
from guard.pipeline.messages import query_texts, system_text
from guard.retrieval.hybrid import fit
from guard.rollout.snapshot import Snapshot, SpecInContext

log = structlog.get_logger(__name__)


class ProfiledEngine(ChatEngine, Protocol):
    """An engine that says what it can do; the answer may change when the engine is replaced."""

    @property
    def profile(self) -> EngineProfile:
        """What it can do now."""


class Pipeline:
    """Answers exchanges on one engine; holds no state of any of them."""

    def __init__(
        self,
        engine: ProfiledEngine,
        enforcement: Enforcement,
        writer: RecordWriter,
        spec: SpecInContext,
        limits: RetrievalLimits,
    ) -> None:
        """Wire the parts.

        Args:
            engine: Answers chat calls, and says what it can do.
            enforcement: What is done about findings.
            writer: Makes records durable.
            spec: Which policy text goes into prompts.
            limits: How much of it.
        """
        self.enforcement = enforcement
        self._engine = engine
        self._writer = writer
        self._spec = spec
        self._limits = limits
        self._unawaited: set[asyncio.Task[None]] = set()

    def prepare(self, exchange: Exchange, snapshot: Snapshot) -> Prepared:
        """Retrieve and compose; pure but for the clock.

        Raises:
            InvalidRequest: The engine cannot do what the request asks.
        """
        profile = self._engine.profile
        if exchange.constraint and profile.constrained is Constrained.UNSUPPORTED:
            field = next(iter(exchange.constraint))
            raise InvalidRequest(
                f"This engine cannot enforce {field}; use one with structured outputs, such as vLLM.",
                param=field,
                code="unsupported_parameter",
            )
        started = time.perf_counter()
        hits = snapshot.retriever.retrieve(
            query_texts(exchange.messages), max_sections=self._limits.max_sections
        )
        wanted = hits
        if self._spec is SpecInContext.DRIFT:
            sections = snapshot.policy.section
            wanted = tuple(h for h in hits if sections[h.section].digest not in profile.learnt)
        given = fit(wanted, snapshot.policy, self._limits.budget_tokens, snapshot.spec.tokens.__getitem__)
        elapsed = (time.perf_counter() - started) * 1000
        return Prepared(
            exchange=exchange,
            snapshot=snapshot,
            given=given,
            matched=tuple(hit.section for hit in hits),
            decodings=tuple(dict.fromkeys(hit.via for hit in hits if hit.via != "plain")),
            system=snapshot.spec.system(
                given,
                system_text(exchange.messages),
                constant=self._spec is SpecInContext.RETRIEVED,
            ),
            retrieval_ms=elapsed,
        )

    def run(self, prepared: Prepared, index: int = 0) -> AsyncGenerator[Event, None]:
        """The events of one choice; close the generator to stop it."""
        choice = Choice(
            prepared,
            index,
            self._engine,
            self._engine.profile,
            self.enforcement,
            self._writer,
            self._keep,
        )
        return choice.run()

    async def close(self) -> None:
        """Wait for the records that nobody waits for."""
        while self._unawaited:
            await asyncio.wait(self._unawaited)

    def _keep(self, record: Record) -> None:
        task = asyncio.ensure_future(self._write(record))
        self._unawaited.add(task)
        task.add_done_callback(self._unawaited.discard)

    async def _write(self, record: Record) -> None:
        try:
            await self._writer.write(record)
        except AuditError as error:
            log.error("record lost", record=record.id, outcome=record.outcome, reason=str(error))
