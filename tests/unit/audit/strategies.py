"""Records as Hypothesis makes them: any text, any combination."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from guard.audit.record import Outcome, Record
from guard.deliberation.citations import Citation, CitationStatus
from guard.deliberation.deliberation import Finding
from guard.deliberation.style import AnswerStyle
from guard.policy.model import Ruling

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
"""What both databases store as it is."""
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
counts = st.integers(0, 2**31 - 1)
milliseconds = st.floats(0, 1e9, allow_nan=False)


def citations(words: st.SearchStrategy[str]) -> st.SearchStrategy[Citation]:
    """Citations of any kind."""
    return st.builds(
        Citation,
        clause=words,
        status=st.sampled_from(CitationStatus),
        quote=words,
        start=counts,
        end=counts,
        section=st.none() | words,
    )


def records(words: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Record]:
    """Records whose texts are of this kind; ids are never empty."""
    return st.builds(
        Record,
        id=words.filter(bool),
        request_id=words,
        choice=st.integers(0, 127),
        started_at=times,
        finished_at=times,
        endpoint=words,
        tenant=words,
        model=words,
        engine_model=words,
        policy=words,
        policy_digest=words,
        mode=words,
        stream=st.booleans(),
        outcome=st.sampled_from(Outcome),
        sections=st.lists(words, max_size=3).map(tuple),
        decodings=st.lists(words, max_size=2).map(tuple),
        messages=words,
        thinking=words,
        answer=words,
        withheld=words,
        tool_calls=words,
        verdict=st.none() | st.sampled_from(Ruling),
        style=st.sampled_from(AnswerStyle),
        agrees=st.none() | st.booleans(),
        citations=st.lists(citations(words), max_size=4).map(tuple),
        findings=st.lists(st.sampled_from(Finding), max_size=4).map(tuple),
        attempts=st.integers(0, 10),
        finish_reason=words,
        prompt_tokens=counts,
        completion_tokens=counts,
        retrieval_ms=milliseconds,
        first_token_ms=milliseconds,
        total_ms=milliseconds,
        error=words,
        labels=words,
    )
