"""The audit database's tables: one schema for SQLite and PostgreSQL.

``records`` holds a whole record in one row, lists as JSON text, so that reading one is one query.
``citations`` and ``findings`` repeat two of those lists as rows, for filters alone. Triggers, which stand
in the migrations, derive them from the record's row in its own transaction.

Short columns come first, so that a filter on them reads the head of a row and not its long texts.
Text that is compared by range or sorted is collated by code point on PostgreSQL, as SQLite does.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    text,
)

VERSION_TABLE = "guard_audit_version"
"""Where the migrations note their state; named so that other users of Alembic may share the database."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: ``timestamptz`` on PostgreSQL, sortable UTC text on SQLite; always aware in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite's text has no room for an offset."""
        if value is None:
            return None
        instant = value.astimezone(UTC)
        return instant.replace(tzinfo=None) if dialect.name == "sqlite" else instant

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Back to an aware UTC time."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


def _key_text() -> Text:
    """Text compared by code point, whatever the database's locale."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _milliseconds(name: str) -> Column[float]:
    return Column(name, Double, nullable=False)


metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("id", _key_text(), primary_key=True),
    _text("request_id"),
    Column("choice", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    _text("outcome"),
    Column("verdict", Text),
    _text("style"),
    Column("agrees", Boolean),
    _text("tenant"),
    _text("endpoint"),
    _text("mode"),
    Column("stream", Boolean, nullable=False),
    _text("policy"),
    _text("policy_digest"),
    _text("model"),
    _text("engine_model"),
    _text("finish_reason"),
    Column("attempts", Integer, nullable=False),
    _count("prompt_tokens"),
    _count("completion_tokens"),
    _milliseconds("retrieval_ms"),
    _milliseconds("first_token_ms"),
    _milliseconds("total_ms"),
    _text("instance"),
    _text("sections"),
    _text("decodings"),
    _text("findings"),
    _text("citations"),
    _text("error"),
    _text("messages"),
    _text("thinking"),
    _text("answer"),
    _text("withheld"),
    _text("tool_calls"),
    Column("labels", Text, nullable=False, server_default=text("''")),
    # Newest first with the usual filters is answered from this index alone, row by row as it goes.
    Index("records_by_time", "started_at", "outcome", "verdict", "tenant"),
)
Index(
    "records_streaming",
    records.c.instance,
    sqlite_where=records.c.outcome == "streaming",
    postgresql_where=records.c.outcome == "streaming",
)

citations = Table(
    "citations",
    metadata,
    Column("record_id", _key_text(), nullable=False),
    Column("position", Integer, nullable=False),
    Column("clause", _key_text(), nullable=False),
    Column("section", Text),
    _text("status"),
    _text("quote"),
    PrimaryKeyConstraint("record_id", "position"),
    Index("citations_by_clause", "clause", "record_id"),
)

findings = Table(
    "findings",
    metadata,
    Column("record_id", _key_text(), nullable=False),
    Column("finding", _key_text(), nullable=False),
    PrimaryKeyConstraint("record_id", "finding"),
    Index("findings_by_finding", "finding", "record_id"),
)

policies = Table(
    "policies",
    metadata,
    Column("digest", _key_text(), primary_key=True),
    _text("name"),
    _text("version"),
    Column("activated_at", UtcDateTime, nullable=False),
    _text("document"),
    Index("policies_by_name", "name", "activated_at"),
)

responses = Table(
    "responses",
    metadata,
    Column("id", _key_text(), primary_key=True),
    _text("tenant"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("previous_id", _key_text()),
    _count("size"),
    _text("input"),
    _text("body"),
    Index("responses_by_time", "created_at"),
)
