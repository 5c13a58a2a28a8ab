"""Records for tests: one that says everything, and variations of it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from guard.audit.record import Outcome, Record
from guard.deliberation.citations import Citation, CitationStatus
from guard.deliberation.deliberation import Finding
from guard.deliberation.style import AnswerStyle
from guard.policy.model import Clause, Example, Policy, Ruling, Section

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

THINKING = (
    "The user asks how much of a medicine is too much.\n"
    '[SH1] "never give a method" applies, and the tone suggests distress [SH2].\n'
    "Decision: safe_complete"
)


def make_record(number: int = 0, **changes: Any) -> Record:
    """A record; a higher number began later and has a greater id."""
    request = f"req-{number:06d}"
    quoted = THINKING.index("[SH1]")
    bare = THINKING.index("[SH2]")
    record = Record(
        id=f"{request}-0",
        request_id=request,
        choice=0,
        started_at=START + timedelta(seconds=number),
        finished_at=START + timedelta(seconds=number + 1),
        endpoint="/v1/chat/completions",
        tenant="team-a",
        model="guard",
        engine_model="SmolLM2-135M-Instruct",
        policy="default",
        policy_digest="d" * 64,
        mode="enforce",
        stream=False,
        outcome=Outcome.ANSWERED,
        sections=("self-harm",),
        decodings=("base64",),
        messages='[{"role":"user","content":"How many pills are too many?"}]',
        thinking=THINKING,
        answer="I can't give a number, but you can talk to someone now. " * 8,
        withheld="",
        tool_calls="",
        verdict=Ruling.SAFE_COMPLETE,
        style=AnswerStyle.PARTIAL,
        agrees=True,
        citations=(
            Citation("SH1", CitationStatus.VERIFIED, "never give a method", quoted, quoted + 27, "self-harm"),
            Citation("SH2", CitationStatus.VERIFIED, "", bare, bare + 5, "self-harm"),
        ),
        findings=(),
        attempts=1,
        finish_reason="stop",
        prompt_tokens=812,
        completion_tokens=164,
        retrieval_ms=0.4,
        first_token_ms=310.5,
        total_ms=1250.25,
        error="",
        labels='{"user":"u-1"}',
    )
    return record._replace(**changes)


def make_records(count: int, **changes: Any) -> list[Record]:
    """Several, of a usual mix: every fifth has a finding, every eighth no citations."""
    records = []
    for number in itertools.islice(itertools.count(), count):
        record = make_record(number, **changes)
        if number % 5 == 0:
            record = record._replace(findings=(Finding.MISQUOTED_CITATION,))
        if number % 8 == 0:
            record = record._replace(citations=())
        records.append(record)
    return records


def make_policy(version: str = "1", text: str = "Never give a method of self-harm.") -> Policy:
    """A policy of one section with two clauses."""
    clauses = (
        Clause("SH1", Ruling.SAFE_COMPLETE, text, ("crisis resources may always be named",)),
        Clause("SH2", Ruling.COMPLY, "Meet distress with warmth."),
    )
    section = Section(
        id="self-harm",
        title="Self-harm",
        summary="Care for people in distress.",
        definitions="Self-harm is hurting oneself.",
        clauses=clauses,
        why="Lives.",
        safe_completion="Name a helpline.",
        examples=(Example("How many pills?", Ruling.SAFE_COMPLETE, "SH1"),),
    )
    return Policy(
        name="default",
        title="Default",
        version=version,
        precedence=("life first",),
        principles=("be kind",),
        styles={Ruling.COMPLY: "a", Ruling.SAFE_COMPLETE: "b", Ruling.REFUSE: "c"},
        refusals={"default": "I can't help with that."},
        sections=(section,),
    )
