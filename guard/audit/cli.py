"""``guard log``: read the audit log, and delete what is old."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from guard.audit.detail import log_detail
from guard.audit.query import Filter, find, get, parse_time
from guard.audit.record import Outcome, Record
from guard.audit.render import json_line, log_lines, log_table
from guard.audit.safe_text import safe_line
from guard.audit.store import AuditStore
from guard.deliberation.citations import CitationStatus
from guard.deliberation.deliberation import Finding
from guard.errors import AuditError
from guard.policy.model import Policy, Ruling

T = TypeVar("T")

DEFAULT_DATABASE = "var/guard.db"

log_app = typer.Typer(help="The record of every answer: what it cited, how it was judged, what was released.")

Opt = typer.Option
Database = Annotated[
    str | None, Opt(help="SQLite path or postgresql:// URL.", envvar="GUARD_DATABASE", show_envvar=True)
]


@log_app.callback(invoke_without_command=True)
def log(
    context: typer.Context,
    json: Annotated[bool, Opt("--json", help="One JSON object a line.")] = False,
    limit: Annotated[int, Opt(min=1, help="Records at most, the newest first.")] = 20,
    clause: Annotated[str | None, Opt(help="Only where this clause is cited, such as SH3.")] = None,
    citation: Annotated[
        CitationStatus | None, Opt(help="Only where a citation (of --clause, if given) has this status.")
    ] = None,
    verdict: Annotated[Ruling | None, Opt(help="Only this verdict.")] = None,
    finding: Annotated[Finding | None, Opt(help="Only with this finding.")] = None,
    outcome: Annotated[Outcome | None, Opt(help="Only this outcome.")] = None,
    tenant: Annotated[str | None, Opt(help="Only this API key's name.")] = None,
    policy: Annotated[str | None, Opt(help="Only this policy: its name, or a digest's beginning.")] = None,
    request: Annotated[str | None, Opt(help="Only this request id.")] = None,
    since: Annotated[str | None, Opt(help="From this time on: 30m, 2h, 3d ago, or 2026-03-01T14:30.")] = None,
    until: Annotated[str | None, Opt(help="Before this time.")] = None,
    database: Database = None,
) -> None:
    """List records, the newest first."""
    context.obj = database
    if context.invoked_subcommand:
        return
    wanted = Filter(
        limit=limit,
        clause=clause,
        citation_status=citation,
        verdict=verdict,
        finding=finding,
        outcome=outcome,
        tenant=tenant,
        policy=policy,
        request_id=request,
        since=_time(since, "--since") if since is not None else None,
        until=_time(until, "--until") if until is not None else None,
    )
    records = _reading(database, lambda store: find(store, wanted))
    if json:
        _print_lines(map(json_line, records))
    elif sys.stdout.isatty():
        Console().print(log_table(records))
    else:
        _print_lines(log_lines(records))


@log_app.command()
def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="Record id, request id, or the unique beginning of one.")],
    json: Annotated[bool, Opt("--json", help="As JSON.")] = False,
    database: Database = None,
) -> None:
    """Show one record in full, with the clauses it cites as they were."""
    record, policy = _reading(database or context.obj, lambda store: _record_and_policy(store, id))
    if json:
        _print_lines([json_line(record)])
    elif sys.stdout.isatty():
        Console().print(log_detail(record, policy))
    else:
        console = Console(width=100)
        with console.capture() as captured:
            console.print(log_detail(record, policy, columns=False), soft_wrap=True)
        _print_lines(line.rstrip() for line in captured.get().splitlines())


@log_app.command()
def prune(
    context: typer.Context,
    before: Annotated[str, Opt(help="Delete what began before this time: 90d, 1w ago, or 2026-03-01.")],
    database: Database = None,
) -> None:
    """Delete old records for good, also while a guard serves; policies stay."""
    time = _time(before, "--before")
    database = database or context.obj
    _reading(database, lambda store: store.check())  # it must be there, and have this schema
    count = _using(
        AuditStore.open(database or DEFAULT_DATABASE, upgrade=False), lambda store: store.prune(time)
    )
    _print_lines([f"{count} records deleted"])


async def _record_and_policy(store: AuditStore, id: str) -> tuple[Record, Policy | None]:
    record = await get(store, id)
    return record, await store.policy(record.policy_digest)


def _reading(database: str | None, work: Callable[[AuditStore], Awaitable[T]]) -> T:
    """Run work that only reads on the database, or end with one line that says why not."""
    return _using(AuditStore.open_for_reading(database or DEFAULT_DATABASE), work)


def _using(opening: Coroutine[Any, Any, AuditStore], work: Callable[[AuditStore], Awaitable[T]]) -> T:
    """Run work on a store that is opened and closed, or end with one line that says why not."""

    async def run() -> T:
        store = await opening
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except AuditError as error:
        typer.echo(f"guard log: {safe_line(str(error))}", err=True)
        raise typer.Exit(1) from None


def _time(text: str, option: str) -> datetime:
    try:
        return parse_time(text, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _print_lines(lines: Iterable[str]) -> None:
    """Print; a reader that has seen enough (``guard log | head``) is no error."""
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must not fail once more when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
