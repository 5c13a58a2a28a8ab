"""Bring a database to the schema of this guard; several processes may start at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from guard.audit.schema import VERSION_TABLE
from guard.errors import AuditError

_LOCK = 0x6775_6172_6461_7564
"""Key of the advisory lock on PostgreSQL: "guardaud" in ASCII."""


def upgrade(connection: Connection) -> None:
    """Run what is missing, in the caller's transaction: all of it is applied, or none.

    On PostgreSQL an advisory lock makes a second starter wait and then find nothing to do; on SQLite the
    caller's ``BEGIN IMMEDIATE`` does. Alembic keeps its context in globals, so within one process only
    one upgrade may run at a time.

    Raises:
        AuditError: A newer guard has changed the database.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if current_revision(connection) == newest_revision():
        return
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise AuditError(f"a newer guard has changed the audit database: {error}") from error


def check(connection: Connection) -> None:
    """See that the schema is this guard's, and change nothing.

    Raises:
        AuditError: It is older, newer, or not there.
    """
    found, wanted = current_revision(connection), newest_revision()
    if found is None:
        raise AuditError("the database holds no audit log; a guard creates it when it starts")
    if found != wanted:
        raise AuditError(
            f"the audit log has schema {found}, this guard reads {wanted}; "
            "a newer guard upgrades an older log when it starts"
        )


def current_revision(connection: Connection) -> str | None:
    """The step the database is at; None where it has none."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def newest_revision() -> str | None:
    """The last step this guard has."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
