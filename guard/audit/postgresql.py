"""PostgreSQL, over asyncpg on the event loop."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import asyncpg  # type: ignore[import-untyped] # ships no types
from sqlalchemy.ext.asyncio import create_async_engine

from guard.audit.database import T, Work, converted
from guard.errors import AuditError

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
"""How long the server may take for one statement."""
CONNECTIONS = 5
"""The writer, the replay, and readers."""


class PostgresDatabase:
    """A server, over a small pool of connections."""

    def __init__(self, url: str) -> None:
        """Set up the pool; what the URL leaves out comes from libpq's environment variables."""
        self.location = safe_url(url)

        async def connect() -> asyncpg.Connection[Any]:
            try:
                return await asyncpg.connect(
                    url,
                    timeout=CONNECT_SECONDS,
                    command_timeout=COMMAND_SECONDS,
                    server_settings={"application_name": "guard"},
                )
            except (asyncpg.ClientConfigurationError, ValueError) as error:
                # asyncpg quotes the URL it cannot use, password included.
                reason = f"the URL cannot be used ({type(error).__name__})"
                raise AuditError(f"{self.location}: {reason}") from None

        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=COMMAND_SECONDS,
            hide_parameters=True,
            pool_pre_ping=True,  # connections die with the server, and in gateways that drop idle ones
        )
        self._committing = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def write(self, work: Work[T]) -> T:
        """Run work in one transaction."""
        with converted(self.location):
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def write_statement(self, work: Work[T]) -> T:
        """Run work without BEGIN and COMMIT, which saves two round trips."""
        with converted(self.location):
            async with self._committing.connect() as connection:
                return await connection.run_sync(work)

    async def read(self, work: Work[T]) -> T:
        """Run work in one transaction."""
        return await self.write(work)

    async def close(self) -> None:
        """Close the pool."""
        await self._engine.dispose()


UNREADABLE = "postgresql://…"
"""Stands for a URL of which nobody can say where its password ends."""


def safe_url(url: str) -> str:
    """The URL without user, password and parameters.

    >>> safe_url("postgresql://guard:secret@db:5432/audit?sslmode=require")
    'postgresql://db:5432/audit'
    """
    try:
        parts = _split(url)
    except ValueError:
        return UNREADABLE
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def url_without_password(url: str) -> str:
    """The URL as it can be shown and used again, where the password comes from elsewhere.

    >>> url_without_password("postgresql://guard:secret@db:5432/audit?sslmode=require&password=secret")
    'postgresql://guard@db:5432/audit?sslmode=require'
    """
    try:
        parts = _split(url)
    except ValueError:
        return UNREADABLE
    user, at, host = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in parse_qsl(parts.query) if "password" not in name.lower()]
    query = f"?{urlencode(kept)}" if kept else ""
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}{query}"


def _split(url: str) -> SplitResult:
    """The parts of a URL whose user and password stand where they should.

    Raises:
        ValueError: A password that is not percent-encoded has put them elsewhere.
    """
    parts = urlsplit(url)
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("an @ after the host")
    return parts
