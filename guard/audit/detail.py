"""One record in full, the cited clauses beside the thinking."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from guard.audit.record import Record
from guard.audit.render import MARKS, conversation, verdict_text, worse
from guard.audit.safe_text import safe, safe_line
from guard.deliberation.citations import Citation, CitationStatus
from guard.policy.model import Policy


def log_detail(record: Record, policy: Policy | None, *, columns: bool = True) -> RenderableType:
    """Everything about one record.

    Args:
        record: What to show.
        policy: The policy as it was, by the record's digest; None where it was not kept.
        columns: Whether clauses stand beside the thinking, as in a terminal, or below each line.
    """
    parts: list[RenderableType] = [_facts(record, policy)]
    for role, text in conversation(record.messages):
        parts += [_heading(role), _block(text)]
    parts += [_heading("thinking"), _thinking(record, policy, columns=columns)]
    if record.answer or not record.withheld:
        parts += [_heading("answer"), _block(record.answer or "(none)")]
    if record.tool_calls:
        parts += [_heading("tool calls"), _block(record.tool_calls)]
    if record.withheld:
        parts += [_heading("withheld: the client did not get this"), _block(record.withheld)]
    if record.error:
        parts += [_heading("error"), _block(record.error)]
    return Group(*parts)


def _facts(record: Record, policy: Policy | None) -> Table:
    agrees = {None: "", True: ", as decided", False: ", against the verdict"}[record.agrees]
    version = f" version {policy.version}" if policy else ""
    first = f", first token {record.first_token_ms:,.0f} ms" if record.first_token_ms else ""
    facts: dict[str, str | Text] = {
        "record": Text(record.id, "bold"),
        "time": f"{record.started_at:%Y-%m-%d %H:%M:%S} UTC",
        "request": f"{record.endpoint}, {'stream' if record.stream else 'no stream'}, tenant {record.tenant}",
        "labels": record.labels,
        "model": f"{record.model} as {record.engine_model}",
        "policy": f"{record.policy}{version} ({record.policy_digest[:12]}), {record.mode}",
        "sections": ", ".join(record.sections) or "none",
        "decodings": ", ".join(record.decodings),
        "verdict": verdict_text(record),
        "answer": Text(f"{record.style}{agrees}", "bold red" if record.agrees is False else ""),
        "findings": Text(
            ", ".join(dict.fromkeys(record.findings)) or "none", "red" if record.findings else ""
        ),
        "outcome": f"{record.outcome}, finish reason {record.finish_reason or 'none'}",
        "engine calls": str(record.attempts),
        "tokens": f"{record.prompt_tokens:,} in, {record.completion_tokens:,} out",
        "timing": f"{record.total_ms:,.0f} ms{first}, retrieval {record.retrieval_ms:,.2f} ms",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        shown = value if isinstance(value, Text) else Text(value)
        if shown.plain:
            table.add_row(Text(name, "dim"), Text(safe_line(shown.plain), shown.style))
    return table


def _thinking(record: Record, policy: Policy | None, *, columns: bool) -> RenderableType:
    """Line by line, each citation highlighted, the clauses it names beside it or below."""
    if not record.thinking:
        return _block("(none)")
    table = Table.grid(padding=(0, 2), expand=columns)
    if columns:
        table.add_column(ratio=3)
        table.add_column(ratio=2)
    parts: list[RenderableType] = []
    noted: set[tuple[str, CitationStatus, str]] = set()
    start = 0
    for line in record.thinking.splitlines(keepends=True):
        end = start + len(line)
        here = [citation for citation in record.citations if start <= citation.start < end]
        notes = []
        for citation in here:
            if (key := (citation.clause, citation.status, citation.quote)) not in noted:
                noted.add(key)
                notes.append(_note(citation, policy))
        text = _highlighted(record.thinking, start, end, record.citations)
        if columns:
            table.add_row(text, Text("\n\n").join(notes))
        else:
            parts += [text, *(Padding(note, (0, 0, 0, 4)) for note in notes)]
        start = end
    return table if columns else Group(*parts)


def _highlighted(thinking: str, start: int, end: int, citations: Sequence[Citation]) -> Text:
    """A line of the thinking; spans are cut out before the text is made safe, which may lengthen it."""
    spans: dict[tuple[int, int], CitationStatus] = {}
    for citation in citations:
        span = (max(citation.start, start), min(citation.end, end))
        if span[0] < span[1]:
            spans[span] = worse(spans.get(span), citation.status)
    text, at = Text(), start
    for (first, last), status in sorted(spans.items()):
        if first >= at:
            text.append(safe(thinking[at:first]))
            text.append(safe(thinking[first:last]), f"reverse {MARKS[status][1]}")
            at = last
    text.append(safe(thinking[at:end]))
    text.rstrip()
    return text


def _note(citation: Citation, policy: Policy | None) -> Text:
    """What the clause said in the policy of this record."""
    mark, style = MARKS[citation.status]
    text = Text()
    text.append(safe_line(f"{mark} {citation.clause} {citation.status.replace('_', ' ')}"), f"bold {style}")
    clause = policy.clauses.get(citation.clause) if policy else None
    if clause:
        text.append(safe(f" · {citation.section} · {clause.ruling}"), "dim")
        text.append(f"\n{safe_line(clause.text)}")
        for exception in clause.exceptions:
            text.append(f"\nExcept: {safe_line(exception)}")
    else:
        missing = "not in this version of the policy" if policy else "this version of the policy was not kept"
        text.append(f"\n({missing})", "dim")
    if citation.quote:
        text.append(f"\nquoted: “{safe_line(citation.quote)}”", "italic")
    return text


def _heading(title: str) -> Rule:
    return Rule(Text(safe_line(title), "bold"), align="left", style="dim", characters="─")


def _block(text: str) -> Text:
    return Text(safe(text))
