"""The life of one exchange: snapshot, retrieve, compose, then run its choices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from guard.deliberation.verdict import holds_decision
from guard.pipeline.abilities import check_able, not_applied
from guard.pipeline.choice import Choice, RecordWriter
from guard.pipeline.enforcement import Enforcement, Mode
from guard.pipeline.events import Emit
from guard.pipeline.exchange import EngineProfile, Exchange, Prepared, RetrievalLimits
from guard.pipeline.messages import form_text, query_texts, strings, system_text
from guard.pipeline.turn import ChatEngine
from guard.retrieval.batch import Batch
from guard.retrieval.disguise import clean
from guard.retrieval.hybrid import Hit, decodings, fit
from guard.retrieval.normalise import bounded
from guard.rollout.snapshot import Snapshot, SpecInContext

DECODED = 4_000
"""Characters of a decoded text that the engine is shown: the first and the last half of it."""


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
        self._batch = Batch(limits.max_sections)

    async def prepare(self, exchange: Exchange, snapshot: Snapshot) -> Prepared:
        """Retrieve, together with whoever asks at the same time, and compose.

        Raises:
            InvalidRequest: The engine cannot do what the request asks.
        """
        profile = self._engine.profile
        check_able(exchange, profile)
        started = time.perf_counter()
        texts = exchange.searched
        if texts is None:
            texts = query_texts(exchange.messages, exchange.constraint)
        hits = await self._batch.retrieve(snapshot.retriever, texts)
        wanted = hits
        if self._spec is SpecInContext.DRIFT:
            sections = snapshot.policy.section
            wanted = tuple(h for h in hits if sections[h.section].digest not in profile.learnt)
        given = fit(wanted, snapshot.policy, self._limits.budget_tokens, snapshot.spec.tokens.__getitem__)
        decoded = self._decoded(snapshot, texts, hits)
        elapsed = (time.perf_counter() - started) * 1000
        return Prepared(
            exchange=exchange,
            snapshot=snapshot,
            given=given,
            matched=tuple(hit.section for hit in hits),
            decodings=decodings(hits),
            system=snapshot.spec.system(
                given,
                "\n\n".join(filter(None, (system_text(exchange.messages), form_text(exchange.constraint)))),
                constant=self._spec is SpecInContext.RETRIEVED,
            ),
            retrieval_ms=elapsed,
            not_applied=not_applied(exchange, profile),
            decoded=decoded,
            dictated=any(map(_dictates, (*texts, *decoded.values(), *_beside(exchange)))),
        )

    def _decoded(self, snapshot: Snapshot, texts: Sequence[str], hits: Sequence[Hit]) -> dict[str, str]:
        """What the engine is told of texts that it may be unable to decode itself."""
        if not self._limits.show_decoded:
            return {}
        found = snapshot.retriever.decoded(texts, hits)
        return {
            text: f"\n\nDecoded from {reading.via}:\n{bounded(reading.text, DECODED)}"
            for text, reading in found.items()
        }

    async def run(self, prepared: Prepared, index: int, emit: Emit) -> None:
        """Run one choice to its end and tell its events; see ``Choice.run``.

        Args:
            prepared: The exchange.
            index: Position among the choices of the request, from 0.
            emit: Told every event.
        """
        enforcement = self.enforcement
        if prepared.exchange.enforce:
            enforcement = replace(enforcement, mode=Mode.ENFORCE)
        choice = Choice(
            prepared,
            index,
            self._engine,
            self._engine.profile,
            enforcement,
            self._writer,
            emit,
        )
        await choice.run()


def _beside(exchange: Exchange) -> list[str]:
    """Texts of the client that reach the prompt beside what its messages say: names, and tools."""
    names = [message["name"] for message in exchange.messages if message.get("name")]
    return [*names, *strings(exchange.sampling.get("tools") or [])]


def _dictates(text: str) -> bool:
    """Whether a text holds a decision, also in disguised letters."""
    return holds_decision(text) or (not text.isascii() and holds_decision(clean(bounded(text))[0]))
