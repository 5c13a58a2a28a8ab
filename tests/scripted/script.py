"""What a scripted engine answers to which request, however the requests reach it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from tests.scripted.reply import Reply
from tests.scripted.request import ReceivedRequest

Answer = Reply | Callable[[ReceivedRequest], Reply]


class Script:
    """Replies in order of arrival, and what arrived."""

    def __init__(self, *replies: Answer) -> None:
        """Prepare answers to the first requests, in order of arrival."""
        self.requests: list[ReceivedRequest] = []
        self._replies: deque[Answer] = deque(replies)
        self._default: Answer = Reply.json({"error": "nothing scripted"}, 500)
        self._failures: list[Exception] = []
        self._arrived = asyncio.Condition()

    def script(self, *replies: Answer) -> None:
        """Append answers to the next requests."""
        self._replies.extend(replies)

    def otherwise(self, reply: Answer) -> None:
        """Answer every request beyond the script like this."""
        self._default = reply

    async def received(self, count: int = 1) -> ReceivedRequest:
        """Wait until ``count`` requests have arrived; the last of them."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def take(self, request: ReceivedRequest) -> Reply:
        """Record the request and pick its reply."""
        self.requests.append(request)
        answer = self._replies.popleft() if self._replies else self._default
        async with self._arrived:
            self._arrived.notify_all()
        return answer if isinstance(answer, Reply) else answer(request)

    def failed(self, error: Exception) -> None:
        """A script could not be played."""
        self._failures.append(error)

    async def stop(self) -> None:
        """End.

        Raises:
            Exception: What a reply function raised, so that no fault of a script goes unseen.
        """
        if self._failures:
            raise self._failures[0]
