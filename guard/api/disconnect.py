"""Notice that a client has left, and stop working for it.

Starlette's own StreamingResponse learns of it only when it next sends, and a plain endpoint never;
the engine would go on thinking for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from starlette.types import Receive

from guard.pipeline.events import ClientLeft

SETTLED = 0.2
"""Seconds after which a client is watched: a block that is over by then needs no task for that, and an engine
that works for nobody for so long does no harm."""


class WhileConnected:
    """Runs a block until it ends or the client leaves, which cancels it: ``async with``, once.

    No generator with ``asynccontextmanager``, for the loop keeps book of every one.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        every: float | None = None,
        tick: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Nothing is watched before the block begins.

        Args:
            receive: The request's ASGI channel, its body already read.
            every: Seconds between two ticks; None for none.
            tick: Called every so often while the client is there (keep-alive comments).
        """
        self._receive = receive
        self._every = every
        self._tick = tick
        self._left = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        """Begin to watch, once the block has run for a while."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._beginning = asyncio.get_running_loop().call_later(SETTLED, self._begin)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Watch no longer.

        Raises:
            ClientLeft: In place of the cancellation that the client's leaving caused.
        """
        self._beginning.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._left and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise ClientLeft from None

    def _begin(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        with suppress(ClientLeft):  # a tick may find it out first
            while not await self._left_in_time():
                if self._tick is not None:
                    await self._tick()
        self._left = True
        self._task.cancel()

    async def _left_in_time(self) -> bool:
        """Wait for the next tick; whether the client leaves before it is due."""
        try:
            async with asyncio.timeout(self._every):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True
