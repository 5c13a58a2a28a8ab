"""Run by Alembic: migrates over the connection that ``guard.audit.migrate`` hands it."""

from __future__ import annotations

from alembic import context

from guard.audit.schema import VERSION_TABLE, metadata


def run() -> None:
    """Migrate in the caller's transaction."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,
    )
    context.run_migrations()


if __name__ != "guard.audit.migrations.env":  # Alembic executes the file; an import of it does nothing
    run()
