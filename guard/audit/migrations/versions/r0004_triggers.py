"""On SQLite, triggers of their own for citations and for findings.

Most records have citations and no findings; one trigger for both made a temporary table for every record,
to look for findings that stand in the list twice.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROWS = {
    "citations": """
        INSERT INTO citations (record_id, position, clause, section, status, quote)
        SELECT NEW.id, key, json_extract(value, '$.clause'), json_extract(value, '$.section'),
               json_extract(value, '$.status'), json_extract(value, '$.quote')
        FROM json_each(NEW.citations);
    """,
    "findings": """
        INSERT INTO findings (record_id, finding)
        SELECT DISTINCT NEW.id, value FROM json_each(NEW.findings);
    """,
}


def upgrade() -> None:
    """Replace the triggers."""
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("DROP TRIGGER IF EXISTS records_inserted")
    op.execute("DROP TRIGGER IF EXISTS records_replaced")
    for table, rows in _ROWS.items():
        op.execute(
            f"""
            CREATE TRIGGER IF NOT EXISTS {table}_inserted AFTER INSERT ON records
            WHEN NEW.{table} <> '[]' BEGIN {rows} END
            """
        )
        op.execute(
            f"""
            CREATE TRIGGER IF NOT EXISTS {table}_replaced AFTER UPDATE OF {table} ON records
            WHEN NEW.{table} <> OLD.{table}
            BEGIN DELETE FROM {table} WHERE record_id = NEW.id; {rows} END
            """
        )
