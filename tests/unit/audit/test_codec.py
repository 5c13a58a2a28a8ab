from __future__ import annotations

from datetime import timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit.codec import (
    policy_document,
    policy_of_document,
    record_line,
    record_of_line,
    record_row,
    storable,
)
from guard.audit.record import Record
from guard.audit.schema import records as table
from tests.unit.audit.factory import START, make_policy, make_record
from tests.unit.audit.strategies import records

ANY_TEXT = st.text(st.characters(), max_size=40)
"""With NUL and lone surrogates."""


@given(records())
def test_a_record_survives_its_line(record: Record) -> None:
    """A record comes back from its line as it was."""
    assert record_of_line(record_line(record)) == record


@given(records(ANY_TEXT))
def test_any_text_makes_one_line(record: Record) -> None:
    """Whatever the texts hold, the line is one line, and reads as the record or its storable form."""
    line = record_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert record_of_line(line) in (record, storable(record))


@given(records(ANY_TEXT))
def test_storable_text_is_what_databases_take(record: Record) -> None:
    """After ``storable`` nothing holds NUL or a lone surrogate, and doing it again changes nothing."""
    clean = storable(record)
    written = repr(clean)
    written.encode()
    assert "\\x00" not in repr(clean.thinking)
    assert storable(clean) == clean


def test_a_line_of_an_older_guard_is_still_a_record() -> None:
    """What was spilled before an upgrade has no labels, and is not lost."""
    line = orjson.loads(record_line(make_record()))
    del line["labels"]
    assert record_of_line(orjson.dumps(line)) == make_record(labels="")


def test_a_row_has_a_value_for_every_column() -> None:
    """The values of a row stand in the order of the table's columns."""
    record = make_record()
    row = dict(zip(table.columns.keys(), record_row(record, "here", lambda time: time), strict=True))
    assert row["instance"] == "here"
    for name in ("id", "started_at", "outcome", "style", "tenant", "thinking", "answer", "total_ms"):
        assert row[name] == getattr(record, name)


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"null", b'{"id": 1', b'{"started_at": 5}', b"\xff"])
def test_a_line_that_is_no_record_is_a_value_error(line: bytes) -> None:
    """What is no record is refused with the one error that callers expect."""
    with pytest.raises(ValueError, match="not a record"):
        record_of_line(line)


def test_a_line_keeps_the_offset_of_its_times() -> None:
    """A time with another offset stays the same instant."""
    there = START.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert record_of_line(record_line(make_record(started_at=there))).started_at == START


def test_a_policy_survives_its_document() -> None:
    """A policy comes back with the digest it had."""
    policy = make_policy()
    again = policy_of_document(policy_document(policy))
    assert again == policy
    assert again.digest == policy.digest
