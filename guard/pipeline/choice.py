"""One choice of an exchange: think, verify, enforce, answer, record.

Every choice is an engine call of its own, so that each can be judged, retried or cut alone. The
record is durable before the event ``Finished``, and for streams a first version of it before the first
visible token, so that no released answer lacks its record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import closing
from typing import Protocol

from guard.audit.record import Outcome, Record
from guard.deliberation.deliberation import Finding, read_deliberation
from guard.deliberation.thinking import REOPENING
from guard.deliberation.verdict import read_verdict
from guard.errors import ApiError, InvalidRequest
from guard.pipeline.enforcement import Action, Enforcement, reminder
from guard.pipeline.events import (
    AnswerText,
    ClientLeft,
    Decided,
    Emit,
    Event,
    Finished,
    ThinkingText,
    ToolCalls,
)
from guard.pipeline.exchange import EngineProfile, Prepared
from guard.pipeline.hidden import PolicyWatch, shows_policy
from guard.pipeline.messages import answer_form
from guard.pipeline.notes import Notes
from guard.pipeline.release import Release
from guard.pipeline.tools import CallNamer
from guard.pipeline.turn import ChatEngine, Turn
from guard.policy.model import Ruling

_REFUSED_BY_ENGINE = "The engine refused the request as invalid."


class RecordWriter(Protocol):
    """What the pipeline asks of the audit."""

    def write(self, record: Record) -> Awaitable[None]:
        """Make a record durable; it is not lost when the caller is cancelled."""

    def keep(self, record: Record) -> None:
        """Take a record that nobody waits for: the client has left."""


class Choice:
    """Runs once; tells its events as they come and leaves exactly one record, whatever happens."""

    def __init__(
        self,
        prepared: Prepared,
        index: int,
        engine: ChatEngine,
        profile: EngineProfile,
        enforcement: Enforcement,
        writer: RecordWriter,
        emit: Emit,
    ) -> None:
        """Set up; nothing is called yet.

        Args:
            prepared: The exchange with its snapshot and prompt.
            index: Position among the exchange's choices, from 0.
            engine: Answers the calls.
            profile: What the engine can do.
            enforcement: What is done about findings.
            writer: Makes records durable.
            emit: Told every event.
        """
        self._prepared = prepared
        self._exchange = prepared.exchange
        self._engine = engine
        self._profile = profile
        self._enforcement = enforcement
        self._writer = writer
        self._emit = emit
        self._notes = Notes(prepared, index, profile.model, enforcement.mode)
        self._holds = enforcement.acts_on(Finding.ANSWER_AGAINST_VERDICT)
        """Refusals are held until they are known to be one, for that can change what is released."""
        self._watch = PolicyWatch(prepared)
        self._reminder = ""
        self._retry = False

    async def run(self) -> None:
        """Tell the choice's events, ``Finished`` last; cancel it to stop the engine.

        Raises:
            ApiError: The engine failed; the record says so.
            ClientLeft: So said whoever was told an event.
        """
        notes = self._notes
        try:
            while True:
                notes.begin_attempt()
                self._watch = PolicyWatch(self._prepared)
                self._retry = False
                await self._attempt()
                if not self._retry:
                    break
                self._reminder = reminder(notes.findings)
        except (asyncio.CancelledError, ClientLeft):
            self._writer.keep(notes.record(Outcome.DISCONNECTED))
            raise
        except ApiError as error:
            reason = " | ".join([error.message, *getattr(error, "__notes__", ())])
            await self._writer.write(notes.record(Outcome.FAILED, error=reason))
            if isinstance(error, InvalidRequest) and shows_policy(error.message, self._prepared):
                raise InvalidRequest(_REFUSED_BY_ENGINE, param=error.param, code=error.code) from error
            raise
        except Exception as error:
            await self._writer.write(notes.record(Outcome.FAILED, error=f"bug: {error!r}"))
            raise
        await self._writer.write(notes.record(notes.outcome))
        await self._emit(Finished(notes.finish_reason, notes.usage, notes.stop_sequence))

    async def _attempt(self) -> None:
        """One deliberation and, if it holds, its answer; sets ``_retry`` where it does not."""
        notes = self._notes
        release = Release(
            self._exchange.stop,
            self._exchange.max_tokens or self._profile.answer_tokens,
            CallNamer(f"call_{self._exchange.request_id.removeprefix('gr-')}{notes.index:04x}"),
            probabilities=bool(self._exchange.probabilities),
        )
        held: list[Event] = []
        hold = again = False
        decided: Decided | None = None
        turn = Turn(self._prepared, self._profile, self._engine, notes, self._reminder)
        with closing(turn):
            async for piece in turn:
                if piece.thinking:
                    if decided is not None and not again:
                        again = True
                        notes.thinking += REOPENING
                    notes.thinking += piece.thinking
                    if decided is None:
                        await self._emit(ThinkingText(piece.thinking))
                    elif self._reconsidered(decided):
                        release.over = "content_filter"
                        break
                if not (piece.answer or piece.tools):
                    continue
                if decided is None:
                    decided = self._decide(exhausted=turn.exhausted)
                    if self._retry:
                        return
                    hold = not decided.refused and self._must_hold()
                    if not hold:
                        await self._open_stream()
                        await self._emit(decided)
                    if decided.refused:
                        break
                for event in release.take(piece):
                    if self._leaks(event):
                        release.over = "content_filter"
                        held.append(event)
                        break
                    if hold:
                        held.append(event)
                    else:
                        self._note(event)
                        await self._emit(event)
                if release.over:
                    break
        for event in self._ending(decided, release, held, hold=hold):
            if hold and isinstance(event, Decided):
                await self._open_stream()
            await self._emit(event)

    def _ending(
        self, decided: Decided | None, release: Release, held: list[Event], *, hold: bool
    ) -> Iterator[Event]:
        """What is left once the engine has said everything, or was cut.

        Args:
            decided: The decision; None where no answer followed the thinking.
            release: What the visible answer has come to.
            held: What was not released, the events of a whole answer where ``hold`` is set.
            hold: The answer has still to be judged.
        """
        notes = self._notes
        if decided is None:
            decided = self._decide(exhausted=notes.finish_reason == "length")
            if self._retry:
                return
            if not decided.refused and self._must_hold() and not self._exchange.decision_only:
                decided = self._refused()  # it decided to refuse and said nothing
            yield decided
        elif not decided.refused and not release.over and (tail := release.rest()):
            if self._leaks(tail):
                release.over = "content_filter"
            if hold or release.over:
                held.append(tail)
            else:
                self._note(tail)
                yield tail
        if release.over:
            notes.finish_reason, notes.stop_sequence = release.over, release.stopped_at
        if hold:
            self._judge_held(held)
            if self._retry:
                return
            decided = Decided(decided.deliberation, refused=notes.outcome is Outcome.REFUSED)
            yield decided
            for event in () if decided.refused else held:
                self._note(event)
                yield event
        elif not decided.refused:
            self._judge_released()
            if release.over == "content_filter":
                notes.outcome, notes.withheld = Outcome.CUT, _text(held)
        if not decided.refused and not release.over and notes.finish_reason != "length":
            release.calls.check()
        if decided.refused:
            yield from () if self._exchange.decision_only else self._refusal()
        elif notes.finish_reason == "length" and notes.outcome is Outcome.ANSWERED:
            notes.outcome = Outcome.TRUNCATED

    def _decide(self, *, exhausted: bool) -> Decided:
        """Read the thinking; note what was found and what is done about it."""
        notes, snapshot = self._notes, self._prepared.snapshot
        notes.deliberation = read_deliberation(
            notes.thinking,
            snapshot.policy,
            given=frozenset(self._prepared.given),
            learnt=self._profile.learnt,
            earlier=snapshot.earlier,
            exhausted=exhausted,
            dictated=self._prepared.dictated,
        )
        decided = self._act(notes.deliberation.findings)
        if decided.refused or self._retry or not (self._must_hold() and self._formed_by_client()):
            return decided
        return self._refused()

    def _formed_by_client(self) -> bool:
        """Whether a schema of the client's forms the answer: it can make help look like a refusal."""
        return answer_form(self._exchange.constraint) is not None

    def _act(self, findings: tuple[Finding, ...]) -> Decided:
        notes = self._notes
        assert notes.deliberation is not None
        action = self._enforcement.decide(findings, notes.attempts)
        self._retry = action is Action.RETRY
        return self._refused() if action is Action.REFUSE else Decided(notes.deliberation, refused=False)

    def _refused(self) -> Decided:
        """The guard's own refusal is released in place of the model's answer."""
        notes = self._notes
        assert notes.deliberation is not None
        notes.outcome = Outcome.REFUSED
        return Decided(notes.deliberation, refused=True)

    def _must_hold(self) -> bool:
        read = self._notes.deliberation
        return self._holds and read is not None and read.verdict is Ruling.REFUSE

    def _judge_held(self, held: list[Event]) -> None:
        """Check a held answer against its verdict before any of it is released."""
        notes = self._notes
        answer = _text(held)
        tools = any(isinstance(event, ToolCalls) for event in held)
        if not (answer.strip() or tools or self._exchange.decision_only):
            self._refused()  # it decided to refuse and said nothing
        elif notes.agreement(answer, tools=tools) is False:
            notes.late_findings.append(Finding.ANSWER_AGAINST_VERDICT)
        if notes.late_findings and (self._act(notes.findings).refused or self._retry):
            notes.withheld = answer

    def _judge_released(self) -> None:
        """Check an answer that is out; too late to change it."""
        notes = self._notes
        late = Finding.ANSWER_AGAINST_VERDICT
        if (
            notes.agreement(notes.answer, tools=bool(notes.tool_calls)) is False
            and late not in notes.findings
        ):
            notes.late_findings.append(late)

    def _reconsidered(self, decided: Decided) -> bool:
        """A second thinking, after the answer began, decided to refuse: note it; whether to cut."""
        notes = self._notes
        if decided.deliberation.verdict is Ruling.REFUSE or read_verdict(notes.thinking) is not Ruling.REFUSE:
            return False
        if Finding.ANSWER_AGAINST_VERDICT not in notes.late_findings:
            notes.late_findings.append(Finding.ANSWER_AGAINST_VERDICT)
        return self._holds

    def _leaks(self, event: Event) -> bool:
        """Note where what is about to be released quotes the policy; whether to cut before it."""
        if not self._watch.take(event):
            return False
        self._notes.late_findings.append(Finding.POLICY_LEAK)
        return self._enforcement.acts_on(Finding.POLICY_LEAK)

    def _refusal(self) -> Iterator[Event]:
        """The policy's own words in place of the model's."""
        notes, policy = self._notes, self._prepared.snapshot.policy
        cited = tuple(
            c.section for c in (notes.deliberation.citations if notes.deliberation else ()) if c.section
        )
        text = policy.refusal((*cited, *self._prepared.matched))
        notes.add_answer(text)
        notes.finish_reason, notes.stop_sequence = "stop", None
        yield AnswerText(text)

    def _note(self, event: Event) -> None:
        if isinstance(event, AnswerText):
            self._notes.add_answer(event.text)
        elif isinstance(event, ToolCalls):
            self._notes.add_tools(event.deltas)

    async def _open_stream(self) -> None:
        if self._exchange.stream:
            await self._writer.write(self._notes.record(Outcome.STREAMING))


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, AnswerText))
