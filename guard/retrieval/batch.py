"""Conversations that arrive together are scored together.

A busy service gets several requests in one turn of its event loop. Scored one by one, each pays for some
fifty calls of numpy on a cold cache; together they pay once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from guard.retrieval.hybrid import Hit, Retriever, Window


class Batch:
    """Gathers the conversations of one turn of the event loop; a turn with one costs nothing more."""

    def __init__(self, max_sections: int) -> None:
        """Set how many hits a conversation gets at most."""
        self._max_sections = max_sections
        self._waiting: dict[Retriever, list[tuple[tuple[Window, ...], asyncio.Future[tuple[Hit, ...]]]]] = {}

    async def retrieve(self, retriever: Retriever, texts: Sequence[str]) -> tuple[Hit, ...]:
        """What ``Retriever.retrieve`` gives for the texts, in the next turn of the loop.

        Args:
            retriever: Of the policy that is asked about.
            texts: The texts of a conversation, newest first.
        """
        windows = retriever.windows(texts)
        if not windows:
            return ()
        loop = asyncio.get_running_loop()
        if retriever not in self._waiting:
            self._waiting[retriever] = []
            loop.call_soon(self._score, retriever)
        hits: asyncio.Future[tuple[Hit, ...]] = loop.create_future()
        self._waiting[retriever].append((windows, hits))
        return await hits

    def _score(self, retriever: Retriever) -> None:
        conversations, waiting = zip(*self._waiting.pop(retriever), strict=True)
        try:
            found = retriever.hits(conversations, max_sections=self._max_sections)
        except Exception as error:  # a callback of the loop has nobody to raise to
            for hits in waiting:
                if not hits.done():
                    hits.set_exception(error)
            return
        for hits, result in zip(waiting, found, strict=True):
            if not hits.done():  # its client has gone
                hits.set_result(result)
