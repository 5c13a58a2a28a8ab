"""Records with their citations and findings, and the policies they were judged by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


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
