"""Records and policies as rows and as JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import orjson

from guard.audit.record import Outcome, Record
from guard.deliberation.citations import Citation, CitationStatus
from guard.deliberation.deliberation import Finding
from guard.deliberation.style import AnswerStyle
from guard.policy.model import Clause, Example, Policy, Ruling, Section

_EMPTY = "[]"


def record_row(record: Record, instance: str, stamp: Callable[[datetime], object]) -> tuple[object, ...]:
    """Values for the columns of ``records``, in their order.

    Spelled out, because it runs for every record on the path of every answer.

    Args:
        record: What to store.
        instance: The guard process that writes it.
        stamp: How the database takes a time.
    """
    return (
        record.id,
        record.request_id,
        record.choice,
        stamp(record.started_at),
        stamp(record.finished_at),
        str(record.outcome),
        str(record.verdict) if record.verdict else None,
        str(record.style),
        record.agrees,
        record.tenant,
        record.endpoint,
        record.mode,
        record.stream,
        record.policy,
        record.policy_digest,
        record.model,
        record.engine_model,
        record.finish_reason,
        record.attempts,
        record.prompt_tokens,
        record.completion_tokens,
        record.retrieval_ms,
        record.first_token_ms,
        record.total_ms,
        instance,
        orjson.dumps(record.sections).decode() if record.sections else _EMPTY,
        orjson.dumps(record.decodings).decode() if record.decodings else _EMPTY,
        orjson.dumps(record.findings).decode() if record.findings else _EMPTY,
        orjson.dumps(record.citations).decode() if record.citations else _EMPTY,
        record.error,
        record.messages,
        record.thinking,
        record.answer,
        record.withheld,
        record.tool_calls,
        record.labels,
    )


def record_of_row(row: Mapping[str, Any]) -> Record:
    """The record that a row of ``records`` holds."""
    lists = {name: orjson.loads(row[name]) for name in ("sections", "decodings", "citations", "findings")}
    return _record({**row, **lists})


def record_line(record: Record) -> bytes:
    """One line of JSON that holds a whole record."""
    try:
        return orjson.dumps(record._asdict(), option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(storable(record)._asdict(), default=_plain).encode() + b"\n"


def record_of_line(line: bytes) -> Record:
    """The record that a line holds.

    Raises:
        ValueError: The line is not one.
    """
    try:
        value = orjson.loads(line)
        times = {name: datetime.fromisoformat(value[name]) for name in ("started_at", "finished_at")}
        return _record(value | times)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a record: {error!r}") from error


def storable(record: Record) -> Record:
    """The same record with what no database takes (NUL, lone surrogates) as U+FFFD."""
    changes: dict[str, Any] = _clean_texts(record._asdict())
    changes["citations"] = tuple(
        replace(citation, **_clean_texts(asdict(citation))) for citation in record.citations
    )
    changes["sections"] = tuple(map(_clean, record.sections))
    changes["decodings"] = tuple(map(_clean, record.decodings))
    return record._replace(**changes)


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Citation) else str(value)


def _clean_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _clean(text) for name, text in values.items() if type(text) is str}


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _record(value: Mapping[str, Any]) -> Record:
    """A record of plain values; whatever else the mapping holds is ignored.

    Lines of older guards have no labels.
    """
    value = {"labels": "", **value}
    values = {name: value[name] for name in Record._fields}
    values["outcome"] = Outcome(values["outcome"])
    values["verdict"] = Ruling(values["verdict"]) if values["verdict"] else None
    values["style"] = AnswerStyle(values["style"])
    values["sections"] = tuple(values["sections"])
    values["decodings"] = tuple(values["decodings"])
    values["findings"] = tuple(map(Finding, values["findings"]))
    values["citations"] = tuple(
        Citation(**{**citation, "status": CitationStatus(citation["status"])})
        for citation in values["citations"]
    )
    return Record(**values)


def policy_document(policy: Policy) -> str:
    """The whole policy as JSON."""
    return orjson.dumps(asdict(policy), option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def policy_of_document(document: str) -> Policy:
    """The policy that a document holds; its digest is the original's."""
    value = orjson.loads(document)
    return Policy(
        name=value["name"],
        title=value["title"],
        version=value["version"],
        precedence=tuple(value["precedence"]),
        principles=tuple(value["principles"]),
        styles={Ruling(ruling): text for ruling, text in value["styles"].items()},
        refusals=value["refusals"],
        sections=tuple(map(_section, value["sections"])),
    )


def _section(value: Mapping[str, Any]) -> Section:
    clauses = tuple(
        Clause(item["id"], Ruling(item["ruling"]), item["text"], tuple(item["exceptions"]))
        for item in value["clauses"]
    )
    examples = tuple(
        Example(item["prompt"], Ruling(item["ruling"]), item["clause"]) for item in value["examples"]
    )
    return Section(**{**value, "clauses": clauses, "examples": examples})
