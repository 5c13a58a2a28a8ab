from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, select, text

from guard.audit.codec import record_of_row, storable
from guard.audit.database import Unstorable
from guard.audit.instance import Instance
from guard.audit.record import Outcome, Record
from guard.audit.schema import citations, findings, policies, records
from guard.audit.store import INTERRUPTED_ERROR, AuditStore
from guard.deliberation.deliberation import Finding
from tests.unit.audit import strategies
from tests.unit.audit.factory import START, make_policy, make_record, make_records

HERE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def stored(store: AuditStore) -> dict[str, Record]:
    """All records by id."""
    rows = await store.read(lambda c: c.execute(select(records)).all())
    return {row.id: record_of_row(row._asdict()) for row in rows}


async def rows_of(store: AuditStore, record_id: str) -> tuple[list[tuple[object, ...]], list[str]]:
    """A record's rows in the tables for filters."""
    cited = select(citations).where(citations.c.record_id == record_id).order_by(citations.c.position)
    found = select(findings.c.finding).where(findings.c.record_id == record_id)
    return (
        [tuple(row) for row in await store.read(lambda c: c.execute(cited).all())],
        sorted(await store.read(lambda c: c.execute(found).scalars().all())),
    )


def expected_rows(record: Record) -> tuple[list[tuple[object, ...]], list[str]]:
    """What they should be."""
    cited: list[tuple[object, ...]] = [
        (record.id, n, c.clause, c.section, c.status, c.quote) for n, c in enumerate(record.citations)
    ]
    return cited, sorted(set(record.findings))


async def test_records_come_back_as_they_were(store: AuditStore) -> None:
    """A batch of records is read as it was written."""
    batch = make_records(70)
    await store.write(batch)
    assert await stored(store) == {record.id: record for record in batch}
    for record in batch[:10]:
        assert await rows_of(store, record.id) == expected_rows(record)


ANY_BATCH = st.lists(strategies.records(), min_size=1, max_size=5, unique_by=lambda record: record.id)


async def keeps(store: AuditStore, batch: list[Record]) -> None:
    """Whatever a record says comes back, and its rows for filters say the same."""
    await store.write(batch)
    assert await stored(store) == {record.id: record for record in batch}
    for record in batch:
        assert await rows_of(store, record.id) == expected_rows(record)
    await store.prune(START.replace(year=2300))


@settings(HERE, max_examples=50)
@given(batch=ANY_BATCH)
async def test_any_record_survives_sqlite(batch: list[Record], sqlite_store: AuditStore) -> None:
    """SQLite gives back every record that Hypothesis can think of."""
    await keeps(sqlite_store, batch)


@settings(HERE, max_examples=25)
@given(batch=ANY_BATCH)
async def test_any_record_survives_postgresql(batch: list[Record], postgres_url: str) -> None:
    """PostgreSQL gives back every record that Hypothesis can think of."""
    store = await AuditStore.open(postgres_url)
    await keeps(store, batch)
    await store.close()


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b", "\udfff\0"])
async def test_text_that_no_database_takes_is_mended(store: AuditStore, bad: str) -> None:
    """NUL and lone surrogates become U+FFFD where the database does not take them."""
    record = make_record(1, thinking=bad, messages=bad, citations=(), model=bad)
    cited = make_record(2)
    cited = cited._replace(citations=(replace(cited.citations[0], quote=bad),))
    await store.write([record, cited])
    found = await stored(store)
    assert found[record.id] in (record, storable(record))
    assert found[cited.id] in (cited, storable(cited))


async def test_writing_again_changes_nothing(store: AuditStore) -> None:
    """The same batch twice is there once."""
    batch = make_records(10)
    await store.write(batch)
    await store.write(batch)
    assert await stored(store) == {record.id: record for record in batch}
    assert await rows_of(store, batch[1].id) == expected_rows(batch[1])


async def test_the_end_of_a_stream_replaces_its_beginning(store: AuditStore) -> None:
    """One record is left, and its rows for filters are those of the final version."""
    first = make_record(stream=True, outcome=Outcome.STREAMING, answer="", findings=(Finding.NO_CITATION,))
    final = first._replace(
        outcome=Outcome.CUT,
        answer="Half an ans",
        citations=first.citations[1:],
        findings=(Finding.ANSWER_AGAINST_VERDICT, Finding.ANSWER_AGAINST_VERDICT),
    )
    await store.write([first])
    assert await stored(store) == {first.id: first}
    await store.write([final])
    assert await stored(store) == {first.id: final}
    assert await rows_of(store, first.id) == expected_rows(final)


async def test_both_versions_in_one_batch(store: AuditStore) -> None:
    """The final version wins, in whichever order a batch holds them."""
    for number, order in enumerate(
        [(Outcome.STREAMING, Outcome.ANSWERED), (Outcome.ANSWERED, Outcome.STREAMING)]
    ):
        await store.write([make_record(number, stream=True, outcome=outcome) for outcome in order])
    assert [record.outcome for record in (await stored(store)).values()] == [Outcome.ANSWERED] * 2


@pytest.mark.parametrize(
    ("there", "comes", "stays"),
    [
        (Outcome.STREAMING, Outcome.INTERRUPTED, Outcome.INTERRUPTED),
        (Outcome.INTERRUPTED, Outcome.STREAMING, Outcome.INTERRUPTED),
        (Outcome.INTERRUPTED, Outcome.ANSWERED, Outcome.ANSWERED),
        (Outcome.ANSWERED, Outcome.INTERRUPTED, Outcome.ANSWERED),
        (Outcome.ANSWERED, Outcome.STREAMING, Outcome.ANSWERED),
        (Outcome.DISCONNECTED, Outcome.FAILED, Outcome.FAILED),
    ],
)
async def test_what_knows_less_never_replaces_what_knows_more(
    store: AuditStore, there: Outcome, comes: Outcome, stays: Outcome
) -> None:
    """A version that comes late does not undo a later one."""
    await store.write([make_record(stream=True, outcome=there)])
    await store.write([make_record(stream=True, outcome=comes)])
    assert [record.outcome for record in (await stored(store)).values()] == [stays]


async def test_records_that_no_database_takes_are_told_apart(store: AuditStore) -> None:
    """Written one by one, good records are kept and the others are named."""
    bad = make_record(2, completion_tokens=2**80)
    assert await store.write_each([make_record(1), bad, make_record(3)]) == [bad]
    assert set(await stored(store)) == {make_record(1).id, make_record(3).id}
    with pytest.raises(Unstorable):
        await store.write([bad])


async def test_an_empty_batch_is_nothing(store: AuditStore) -> None:
    """No record, no statement."""
    await store.write([])


async def test_policies_are_kept_as_they_were(store: AuditStore) -> None:
    """Every version of a policy comes back whole, the latest first, and by its digest."""
    old, new = make_policy("1", "Old words of the clause."), make_policy("2", "New words of the clause.")
    for policy in (old, new, old):
        await store.save_policy(policy)
    assert await store.policies("default") == [new, old]
    assert await store.policies("other") == []
    assert await store.policy(old.digest) == old
    assert await store.policy("0" * 64) is None
    assert await store.read(lambda c: c.execute(select(policies.c.version)).scalars().all())


async def test_streams_of_a_dead_process_are_marked(database: str) -> None:
    """A guard that starts marks what its dead predecessor left streaming, and nothing else."""
    here = Instance.current()
    dead = replace(here, nonce="dead")
    elsewhere = replace(here, host="elsewhere")
    for number, instance in enumerate([dead, elsewhere, here]):
        store = await AuditStore.open(database, instance=instance)
        await store.write(
            [make_record(number, stream=True, outcome=Outcome.STREAMING), make_record(number + 10)]
        )
        await store.close()
    store = await AuditStore.open(database, instance=here)
    assert await store.mark_interrupted() == 1
    assert await store.mark_interrupted() == 0
    outcomes = {record.id: record.outcome for record in (await stored(store)).values()}
    marked = (await stored(store))[make_record(0).id]
    assert (marked.outcome, marked.error) == (Outcome.INTERRUPTED, INTERRUPTED_ERROR)
    assert await rows_of(store, marked.id) == expected_rows(marked)
    assert [outcomes[make_record(n).id] for n in (1, 2)] == [Outcome.STREAMING] * 2
    assert await store.mark_interrupted(before=START + timedelta(seconds=2)) == 1
    await store.close()


async def test_unfinished_streams_are_found_without_reading_the_rest(sqlite_store: AuditStore) -> None:
    """Marking at the start of a guard uses the index of streaming records, however large the log."""
    statements: list[str] = []

    def plans(connection: Connection) -> list[str]:
        return [
            str(step)
            for statement in statements
            for step in connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", ("x",) * statement.count("?")
            )
        ]

    def watch(connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        if "UPDATE records" in statement or "SELECT DISTINCT" in statement:
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", watch)
    try:
        await sqlite_store.mark_interrupted()
    finally:
        event.remove(Engine, "before_cursor_execute", watch)
    found = await sqlite_store.read(plans)
    assert len(found) >= 2
    assert [step for step in found if "SCAN records" in step and "records_streaming" not in step] == []


async def test_pruning_takes_the_old_with_all_their_rows(store: AuditStore) -> None:
    """Records from before a time go, in as many batches as it takes, with their rows for filters."""
    await store.write(make_records(50))
    assert await store.prune(START + timedelta(seconds=33), batch=10) == 33
    assert await store.prune(START + timedelta(seconds=33)) == 0
    left = await stored(store)
    assert set(left) == {make_record(number).id for number in range(33, 50)}
    for table in (citations, findings):
        owners = await store.read(lambda c, t=table: set(c.execute(select(t.c.record_id)).scalars()))  # type: ignore[misc]
        assert owners <= set(left)
    assert await rows_of(store, make_record(49).id) == expected_rows(left[make_record(49).id])


async def test_the_database_can_be_asked_whether_it_is_there(store: AuditStore) -> None:
    """A check of a database that answers raises nothing, and an instance is noted with each record."""
    await store.check()
    await store.write([make_record()])
    instance = await store.read(lambda c: c.execute(text("SELECT instance FROM records")).scalar())
    assert Instance.parse(str(instance))
