"""Records for people, one line each, and for other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

from guard.audit.record import Record
from guard.audit.safe_text import safe_json, safe_line
from guard.deliberation.citations import CitationStatus
from guard.policy.model import Ruling

MARKS = {
    CitationStatus.VERIFIED: ("✓", "green"),
    CitationStatus.UNKNOWN: ("?", "bold red"),
    CitationStatus.MISQUOTED: ("≠", "red"),
    CitationStatus.STALE: ("~", "yellow"),
    CitationStatus.NOT_GIVEN: ("∅", "yellow"),
}
"""How the status of a citation looks."""
_VERDICTS = {Ruling.COMPLY: "green", Ruling.SAFE_COMPLETE: "yellow", Ruling.REFUSE: "red"}
_LEGEND = "  ".join(f"{mark} {status}" for status, (mark, _) in MARKS.items())
PROMPT_CHARACTERS = 200
"""How much of a prompt a list shows at most."""


def log_table(records: Sequence[Record]) -> Table:
    """A table of records, in the order given."""
    table = Table(box=None, pad_edge=False, caption=_LEGEND, caption_justify="left")
    for name in ("time (UTC)", "id", "verdict", "answer", "clauses", "findings", "outcome"):
        table.add_column(name, no_wrap=name in {"time (UTC)", "id"}, overflow="fold")
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for record in records:
        table.add_row(
            Text(f"{record.started_at:%m-%d %H:%M:%S}", "dim"),
            Text(safe_line(record.id)),
            verdict_text(record),
            Text(record.style, "bold red" if record.agrees is False else ""),
            _clauses(record),
            Text(", ".join(dict.fromkeys(record.findings)), "red"),
            Text(record.outcome),
            Text(_prompt(record)),
        )
    return table


def log_lines(records: Iterable[Record]) -> Iterator[str]:
    """The same as plain lines, fields separated by tabs; for pipes."""
    for record in records:
        fields = (
            f"{record.started_at:%Y-%m-%dT%H:%M:%SZ}",
            safe_line(record.id),
            verdict_text(record).plain,
            record.style,
            _clauses(record).plain or "-",
            ",".join(dict.fromkeys(record.findings)) or "-",
            record.outcome,
            _prompt(record),
        )
        yield "\t".join(fields)


def to_json(record: Record) -> dict[str, Any]:
    """A record as JSON values; the keys are the record's fields and stay as they are.

    ``messages``, ``tool_calls`` and ``labels`` are values too where they hold JSON, text otherwise.
    """
    value: dict[str, Any] = orjson.loads(orjson.dumps(record._asdict()))
    for name in ("messages", "tool_calls", "labels"):
        value[name] = _parsed(value[name])
    return value


def json_line(record: Record) -> str:
    """A record as one line of JSON that is safe to show."""
    return safe_json(orjson.dumps(to_json(record)).decode())


def conversation(messages: str) -> list[tuple[str, str]]:
    """Role and text of each message; text that is no conversation stands alone."""
    value = _parsed(messages)
    if not isinstance(value, list):
        return [("messages", messages)] if messages else []
    return [_message(item) for item in value]


def _message(item: Any) -> tuple[str, str]:
    if not isinstance(item, dict):
        return "message", _text_of(item)
    parts = [_text_of(item.get("content"))]
    if item.get("tool_calls"):
        parts.append(orjson.dumps(item["tool_calls"]).decode())
    return str(item.get("role", "message")), "\n".join(part for part in parts if part)


def _text_of(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_text_of, content))
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    return orjson.dumps(content).decode()


def _prompt(record: Record) -> str:
    """The beginning of what the user said last."""
    turns = conversation(record.messages)
    said = [text for role, text in turns if role == "user"] or [text for _, text in turns]
    return safe_line(said[-1][: 4 * PROMPT_CHARACTERS])[:PROMPT_CHARACTERS] if said else ""


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def verdict_text(record: Record) -> Text:
    """The verdict in its colour."""
    if record.verdict is None:
        return Text("none", "bold red")
    return Text(record.verdict, _VERDICTS[record.verdict])


def _clauses(record: Record) -> Text:
    """Each cited clause once, with the worst mark it got."""
    worst: dict[str, CitationStatus] = {}
    for citation in record.citations:
        worst[citation.clause] = worse(worst.get(citation.clause), citation.status)
    marked = [
        Text(safe_line(clause) + MARKS[status][0], MARKS[status][1]) for clause, status in worst.items()
    ]
    return Text(" ").join(marked)


def worse(one: CitationStatus | None, other: CitationStatus) -> CitationStatus:
    """The one that matters more to an auditor."""
    order = (
        CitationStatus.UNKNOWN,
        CitationStatus.MISQUOTED,
        CitationStatus.STALE,
        CitationStatus.NOT_GIVEN,
        CitationStatus.VERIFIED,
    )
    return other if one is None else min(one, other, key=order.index)
