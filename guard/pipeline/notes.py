"""What is noted while a choice runs, and the record made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from guard.audit.record import Outcome, Record
from guard.deliberation.deliberation import Deliberation, Finding
from guard.deliberation.style import AnswerStyle, agrees, answer_style
from guard.pipeline.enforcement import Mode
from guard.pipeline.exchange import Prepared
from guard.pipeline.usage import Usage, total
from guard.policy.compose import estimate_tokens
from guard.policy.model import Ruling


@dataclass(slots=True)
class Notes:
    """Grows while the choice runs; ``record`` can be taken at any time."""

    prepared: Prepared
    index: int
    engine_model: str
    mode: Mode
    attempts: int = 0
    thinking: str = ""
    deliberation: Deliberation | None = None
    answer: str = ""
    """Released text."""
    withheld: str = ""
    """The model's text that was not released."""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    """Released tool calls, assembled."""
    late_findings: list[Finding] = field(default_factory=list)
    outcome: Outcome = Outcome.ANSWERED
    finish_reason: str = ""
    stop_sequence: str | None = None
    """The client's stop sequence that cut the answer."""
    calls: list[Usage] = field(default_factory=list)
    """Usage of each engine call."""
    first_token: float = 0.0
    """``time.perf_counter`` of the first visible token."""
    _read_style: tuple[str, AnswerStyle] | None = None

    def begin_attempt(self) -> None:
        """Forget what belonged to the attempt before."""
        self.attempts += 1
        self.thinking = self.withheld = ""
        self.deliberation = None
        self.late_findings.clear()
        self.finish_reason = ""
        self.stop_sequence = None

    def add_answer(self, text: str) -> None:
        """Note released text."""
        self.first_token = self.first_token or time.perf_counter()
        self.answer += text

    def add_tools(self, deltas: list[dict[str, Any]]) -> None:
        """Note released tool-call deltas, joined by index into whole calls."""
        self.first_token = self.first_token or time.perf_counter()
        join_tool_calls(self.tool_calls, deltas)

    @property
    def usage(self) -> Usage:
        """Tokens of all calls; the prompt is estimated where every call was cut before its usage came."""
        usage = total(self.calls)
        if usage.prompt or not self.calls:
            return usage
        exchange = self.prepared.exchange
        text = len(self.prepared.system) + len(orjson.dumps(exchange.messages))
        return Usage(estimate_tokens("x" * text), usage.completion, usage.reasoning, usage.cached)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found so far in this attempt."""
        read = self.deliberation.findings if self.deliberation else ()
        return (*read, *self.late_findings)

    def agreement(self, answer: str, *, tools: bool) -> bool | None:
        """Whether an answer does what the thinking decided; None where that cannot be told.

        A tool call acts, so under the verdict refuse it is against the verdict.
        """
        verdict = self.deliberation.verdict if self.deliberation else None
        if tools:
            return None if verdict is None else verdict is not Ruling.REFUSE
        return agrees(verdict, self._style(answer))

    def _style(self, answer: str) -> AnswerStyle:
        """The style of an answer, read once though it is asked for several times."""
        if self._read_style is None or self._read_style[0] != answer:
            self._read_style = (answer, answer_style(answer))
        return self._read_style[1]

    def record(self, outcome: Outcome, error: str = "") -> Record:
        """The record as things stand now."""
        exchange, policy = self.prepared.exchange, self.prepared.snapshot.policy
        now = time.perf_counter()
        read = self.deliberation
        told = self.answer if self.outcome is Outcome.CUT else self.withheld or self.answer
        usage = self.usage
        return Record(
            id=f"{exchange.request_id}-{self.index}",
            request_id=exchange.request_id,
            choice=self.index,
            started_at=exchange.started_at,
            finished_at=datetime.now(UTC),
            endpoint=exchange.endpoint,
            tenant=exchange.tenant,
            model=exchange.model,
            engine_model=self.engine_model,
            policy=policy.name,
            policy_digest=policy.digest,
            mode=self.mode.value,
            stream=exchange.stream,
            outcome=outcome,
            sections=self.prepared.given,
            decodings=self.prepared.decodings,
            messages=orjson.dumps(exchange.messages).decode(),
            thinking=self.thinking,
            answer=self.answer,
            withheld=self.withheld,
            tool_calls=orjson.dumps(self.tool_calls).decode() if self.tool_calls else "",
            verdict=read.verdict if read else None,
            style=self._style(told),
            agrees=self.agreement(told, tools=bool(self.tool_calls)),
            citations=read.citations if read else (),
            findings=self.findings,
            attempts=self.attempts,
            finish_reason=self.finish_reason,
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            retrieval_ms=self.prepared.retrieval_ms,
            first_token_ms=(self.first_token - exchange.started) * 1000 if self.first_token else 0.0,
            total_ms=(now - exchange.started) * 1000,
            error=error,
            labels=orjson.dumps(exchange.labels).decode() if exchange.labels else "",
        )


def join_tool_calls(calls: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    """Add streamed tool-call deltas to whole calls, by their index."""
    for delta in deltas:
        index, function = delta.get("index", 0), delta.get("function") or {}
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[index]
        call["id"] = delta.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
