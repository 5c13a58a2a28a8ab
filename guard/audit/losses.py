"""Records for which there was no room: counted, and told in the log now and then."""

from __future__ import annotations

import asyncio

import structlog

TELL_SECONDS = 5.0
"""How long losses are gathered for one line of the log."""


class Losses:
    """Counts losses of one event loop, which may come in thousands a second."""

    def __init__(self, seconds: float = TELL_SECONDS) -> None:
        """Begin at zero.

        Args:
            seconds: How long losses are gathered for one line of the log.
        """
        self._seconds = seconds
        self._untold = 0
        self._log = structlog.get_logger("guard.audit")
        self.count = 0
        """All so far."""

    def add(self) -> None:
        """Count a record; the log tells it soon, together with those that follow."""
        self.count += 1
        self._untold += 1
        if self._untold == 1:
            asyncio.get_running_loop().call_later(self._seconds, self.tell)

    def tell(self) -> None:
        """Tell what is not told yet."""
        if self._untold:
            self._log.error("audit records lost", count=self._untold, reason="no room for them in memory")
        self._untold = 0
