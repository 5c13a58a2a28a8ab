"""A guard process that does nothing but write audit records, until it is killed.

    python -m tests.faults.audit_child DATABASE SPILL_FILE

Each line of its output is the acknowledgement of one durable write: the record's id and outcome.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from guard.audit.record import Outcome, Record
from guard.audit.store import AuditStore
from guard.audit.writer import AuditWriter
from tests.unit.audit.factory import make_record

CLIENTS = 8


def record_of(process: int, number: int, outcome: Outcome) -> Record:
    """The record that a process writes under a number; every third is a stream."""
    record = make_record(number, stream=number % 3 == 0, outcome=outcome)
    request = f"{process}-{number:06d}"
    return record._replace(id=f"{request}-0", request_id=request)


async def main(database: str, spill: Path) -> None:
    """Write for ever."""
    store = await AuditStore.open(database)
    writer = AuditWriter(store, spill_path=spill)
    await writer.start()
    numbers = itertools.count()

    async def client() -> None:
        for number in numbers:
            outcomes = (Outcome.STREAMING, Outcome.ANSWERED) if number % 3 == 0 else (Outcome.ANSWERED,)
            for outcome in outcomes:
                record = record_of(os.getpid(), number, outcome)
                await writer.write(record)
                os.write(1, f"{record.id} {outcome}\n".encode())

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
