"""Records with their citations and findings, and the policies they were judged by.

Triggers derive the rows of ``citations`` and ``findings`` from the lists in a record's row. So a batch of
records is one statement, which is what it costs the writer (``guard.audit.statements``), and the rows cannot
disagree with the record.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQLITE_ROWS = """
    INSERT INTO citations (record_id, position, clause, section, status, quote)
    SELECT NEW.id, key, json_extract(value, '$.clause'), json_extract(value, '$.section'),
           json_extract(value, '$.status'), json_extract(value, '$.quote')
    FROM json_each(NEW.citations);
    INSERT INTO findings (record_id, finding)
    SELECT DISTINCT NEW.id, value FROM json_each(NEW.findings);
"""
_SQLITE = (
    f"""
    CREATE TRIGGER records_inserted AFTER INSERT ON records
    WHEN NEW.citations <> '[]' OR NEW.findings <> '[]'
    BEGIN {_SQLITE_ROWS} END
    """,
    f"""
    CREATE TRIGGER records_replaced AFTER UPDATE OF citations, findings ON records
    WHEN NEW.citations <> OLD.citations OR NEW.findings <> OLD.findings
    BEGIN
        DELETE FROM citations WHERE record_id = NEW.id;
        DELETE FROM findings WHERE record_id = NEW.id;
        {_SQLITE_ROWS}
    END
    """,
)
_POSTGRESQL = (
    """
    CREATE FUNCTION records_derive() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            DELETE FROM citations WHERE record_id = NEW.id;
            DELETE FROM findings WHERE record_id = NEW.id;
        END IF;
        INSERT INTO citations (record_id, position, clause, section, status, quote)
        SELECT NEW.id, number - 1, item ->> 'clause', item ->> 'section', item ->> 'status', item ->> 'quote'
        FROM json_array_elements(NEW.citations::json) WITH ORDINALITY AS list (item, number);
        INSERT INTO findings (record_id, finding)
        SELECT DISTINCT NEW.id, item FROM json_array_elements_text(NEW.findings::json) AS list (item);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER records_inserted AFTER INSERT ON records FOR EACH ROW
    WHEN (NEW.citations <> '[]' OR NEW.findings <> '[]') EXECUTE FUNCTION records_derive()
    """,
    """
    CREATE TRIGGER records_replaced AFTER UPDATE OF citations, findings ON records FOR EACH ROW
    WHEN (NEW.citations <> OLD.citations OR NEW.findings <> OLD.findings) EXECUTE FUNCTION records_derive()
    """,
)


def upgrade() -> None:
    """Create the first tables."""
    key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "records",
        sa.Column("id", key, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("choice", sa.Integer, nullable=False),
        sa.Column("started_at", instant, nullable=False),
        sa.Column("finished_at", instant, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("style", sa.Text, nullable=False),
        sa.Column("agrees", sa.Boolean),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("policy_digest", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("engine_model", sa.Text, nullable=False),
        sa.Column("finish_reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("retrieval_ms", sa.Double, nullable=False),
        sa.Column("first_token_ms", sa.Double, nullable=False),
        sa.Column("total_ms", sa.Double, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("sections", sa.Text, nullable=False),
        sa.Column("decodings", sa.Text, nullable=False),
        sa.Column("findings", sa.Text, nullable=False),
        sa.Column("citations", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("messages", sa.Text, nullable=False),
        sa.Column("thinking", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("withheld", sa.Text, nullable=False),
        sa.Column("tool_calls", sa.Text, nullable=False),
    )
    op.create_index("records_by_time", "records", ["started_at", "outcome", "verdict", "tenant"])
    streaming = sa.text("outcome = 'streaming'")
    op.create_index(
        "records_streaming", "records", ["instance"], sqlite_where=streaming, postgresql_where=streaming
    )
    op.create_table(
        "citations",
        sa.Column("record_id", key, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("clause", key, nullable=False),
        sa.Column("section", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("quote", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("record_id", "position"),
    )
    op.create_index("citations_by_clause", "citations", ["clause", "record_id"])
    op.create_table(
        "findings",
        sa.Column("record_id", key, nullable=False),
        sa.Column("finding", key, nullable=False),
        sa.PrimaryKeyConstraint("record_id", "finding"),
    )
    op.create_index("findings_by_finding", "findings", ["finding", "record_id"])
    op.create_table(
        "policies",
        sa.Column("digest", key, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("activated_at", instant, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("policies_by_name", "policies", ["name", "activated_at"])
    for statement in _POSTGRESQL if op.get_context().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)
