from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.audit.query import Filter, find, get, parse_time
from guard.audit.record import Outcome
from guard.audit.store import AuditStore
from guard.deliberation.citations import CitationStatus
from guard.deliberation.deliberation import Finding
from guard.errors import AuditError
from guard.policy.model import Ruling
from tests.unit.audit.factory import START, make_record

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def second(count: int) -> datetime:
    """A time in the life of the records below."""
    return START + timedelta(seconds=count)


async def fill(store: AuditStore) -> None:
    """Six records, each with something of its own; number 5 is the newest."""
    plain = make_record()
    unknown = replace(plain.citations[0], clause="ZZ9", status=CitationStatus.UNKNOWN, section=None)
    await store.write(
        [
            make_record(0, verdict=Ruling.REFUSE, outcome=Outcome.REFUSED),
            make_record(1, findings=(Finding.NO_VERDICT, Finding.NO_CITATION), verdict=None, citations=()),
            make_record(2, citations=(unknown,), findings=(Finding.UNKNOWN_CITATION,)),
            make_record(3, tenant="team-b", citations=(unknown, *plain.citations)),
            make_record(4, policy="strict", policy_digest="abc" + "0" * 61),
            make_record(4)._replace(id="req-000004-1", choice=1, request_id="req-000004"),
            make_record(5, outcome=Outcome.CUT),
        ]
    )


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, ["5-0", "4-1", "4-0", "3-0", "2-0", "1-0", "0-0"]),
        ({"limit": 2}, ["5-0", "4-1"]),
        ({"clause": "zz9"}, ["3-0", "2-0"]),
        ({"clause": "SH1", "limit": 3}, ["5-0", "4-1", "4-0"]),
        ({"clause": "SH"}, []),
        ({"citation_status": CitationStatus.UNKNOWN}, ["3-0", "2-0"]),
        ({"clause": "SH1", "citation_status": CitationStatus.UNKNOWN}, []),
        ({"finding": Finding.NO_VERDICT}, ["1-0"]),
        ({"finding": Finding.NO_CITATION}, ["1-0"]),
        ({"verdict": Ruling.REFUSE}, ["0-0"]),
        ({"outcome": Outcome.CUT}, ["5-0"]),
        ({"tenant": "team-b"}, ["3-0"]),
        ({"tenant": "team-b", "clause": "ZZ9", "finding": Finding.UNKNOWN_CITATION}, []),
        ({"policy": "strict"}, ["4-0"]),
        ({"policy": "abc"}, ["4-0"]),
        ({"policy": "%"}, []),
        ({"request_id": "req-000004"}, ["4-1", "4-0"]),
        ({"request_id": "req-00000"}, []),
        ({"since": second(3)}, ["5-0", "4-1", "4-0", "3-0"]),
        ({"until": second(2)}, ["1-0", "0-0"]),
        ({"since": second(1), "until": second(3), "clause": "ZZ9"}, ["2-0"]),
        ({"before": "req-000004-1", "limit": 2}, ["4-0", "3-0"]),
        ({"before": "req-000004-0", "limit": 2}, ["3-0", "2-0"]),
        ({"before": "nothing"}, []),
    ],
)
async def test_a_filter_finds_what_fits_newest_first(
    store: AuditStore, wanted: dict[str, Any], numbers: list[str]
) -> None:
    """Each condition holds alone and with others; the newest comes first."""
    await fill(store)
    found = await find(store, Filter(**wanted))
    assert [record.id for record in found] == [f"req-00000{number}" for number in numbers]


async def test_found_records_are_whole(store: AuditStore) -> None:
    """What is found is the record as it was written."""
    await fill(store)
    assert (await find(store, Filter(tenant="team-b")))[0].citations[0].clause == "ZZ9"
    assert await find(store, Filter(outcome=Outcome.CUT)) == [make_record(5, outcome=Outcome.CUT)]


@pytest.mark.parametrize("name", ["req-000003-0", "req-000003", "req-000003-"])
async def test_a_record_is_got_by_any_of_its_names(store: AuditStore, name: str) -> None:
    """Its id, its request's id, and a beginning that only it has."""
    await fill(store)
    assert (await get(store, name)).id == "req-000003-0"


async def test_an_exact_name_goes_before_a_beginning(store: AuditStore) -> None:
    """The id of one record may be the beginning of another's."""
    longer = make_record(1)._replace(id="req-000001-01", request_id="req-000001-01")
    await store.write([make_record(1), longer])
    assert (await get(store, "req-000001-0")).id == "req-000001-0"
    assert (await get(store, "req-000001")).id == "req-000001-0"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("req-9", "no record is, or begins with, 'req-9'"),
        ("REQ-000003-0", "no record"),
        ("req-000004", "several records: req-000004-0, req-000004-1$"),
        ("req", "several records: .*req-000004-0, …$"),
    ],
)
async def test_no_record_and_several_are_errors(store: AuditStore, name: str, reason: str) -> None:
    """The text says what the name could be."""
    await fill(store)
    with pytest.raises(AuditError, match=reason):
        await get(store, name)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("45s", datetime(2026, 3, 10, 11, 59, 15, tzinfo=UTC)),
        ("30m", datetime(2026, 3, 10, 11, 30, tzinfo=UTC)),
        (" 2H ", datetime(2026, 3, 10, 10, 0, tzinfo=UTC)),
        ("1.5h", datetime(2026, 3, 10, 10, 30, tzinfo=UTC)),
        ("3d", datetime(2026, 3, 7, 12, 0, tzinfo=UTC)),
        ("1w", datetime(2026, 3, 3, 12, 0, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T14:30", datetime(2026, 3, 1, 14, 30, tzinfo=UTC)),
        ("2026-03-01 14:30:05", datetime(2026, 3, 1, 14, 30, 5, tzinfo=UTC)),
        ("2026-03-01T14:30Z", datetime(2026, 3, 1, 14, 30, tzinfo=UTC)),
        ("2026-03-01T14:30+02:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
    ],
)
def test_times_as_people_write_them(text: str, time: datetime) -> None:
    """Spans count back from now, dates begin at midnight UTC, offsets are honoured."""
    assert parse_time(text, NOW) == time


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2x", "-2h", "yesterday", "2026-13-01", "9" * 30 + "d", "0001-01-01T00:00+10:00"]
)
def test_other_text_is_no_time(text: str) -> None:
    """The error quotes what was written."""
    with pytest.raises(ValueError, match=re.escape(f"'{text}' is")):
        parse_time(text, NOW)


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    """Nothing else comes out, and a time is always aware."""
    reason = repr(text)
    try:
        assert parse_time(text, NOW).tzinfo is not None
    except ValueError as error:
        reason = str(error)
    assert repr(text) in reason
