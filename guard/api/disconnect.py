"""Notice that a client has left, and stop working for it.

Starlette's own StreamingResponse learns of it only when it next sends, and a plain endpoint never;
the engine would go on thinking for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Receive


class ClientLeft(Exception):
    """The client closed the connection; nobody is there to be told."""


SETTLED = 0.2
"""Seconds after which a client is watched: a block that is over by then needs no task for that, and an engine
that works for nobody for so long does no harm."""


@asynccontextmanager
async def while_connected(
    receive: Receive,
    *,
    every: float | None = None,
    tick: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[None]:
    """Run a block until it ends or the client leaves, which cancels it.

    Args:
        receive: The request's ASGI channel, its body already read.
        every: Seconds between two ticks; None for none.
        tick: Called every so often while the client is there (keep-alive comments).

    Raises:
        ClientLeft: In place of the cancellation that the client's leaving caused.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while True:
            try:
                async with asyncio.timeout(every):
                    message = await receive()
            except TimeoutError:
                if tick is not None:
                    await tick()
                continue
            if message["type"] == "http.disconnect":
                left = True
                task.cancel()
                return

    watcher: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    beginning = asyncio.get_running_loop().call_later(SETTLED, begin)
    try:
        yield
    except asyncio.CancelledError:
        if left:
            task.uncancel()
            raise ClientLeft from None
        raise
    finally:
        beginning.cancel()
        if watcher is not None:
            watcher.cancel()
