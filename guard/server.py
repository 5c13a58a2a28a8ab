"""The HTTP server of ``guard serve``: it ends when told to, and leaves no request behind."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

CUT_SECONDS = 5.0
"""How long requests that are cut off may take for their records."""


class Server(uvicorn.Server):
    """uvicorn's, but ``serve`` returns after a signal, with every request at its end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as orders to stop, from now until the event loop is closed.

        uvicorn raises the signal again when it has served. That would kill the process before the guard
        has written its last records and stopped its engine.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish for as long as configured; cut off those that are left, and wait for them."""
        logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
        await super().shutdown(sockets)
        left = set(self.server_state.tasks)
        for task in left:
            if not task.cancelling():  # a second Ctrl-C ends the waiting without cutting anything off
                task.cancel()
        if left:
            await asyncio.wait(left, timeout=CUT_SECONDS)


def _is_no_cut(event: logging.LogRecord) -> bool:
    """Whether an event is more than a request that was cut off; uvicorn says already how many were."""
    return not (event.exc_info and isinstance(event.exc_info[1], asyncio.CancelledError))
