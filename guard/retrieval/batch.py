"""Conversations that arrive together are scored together.

A busy service gets several requests in one turn of its event loop. Scored one by one, each pays for some
fifty calls of numpy on a cold cache; together they pay once. So do their texts for the code that reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from guard.retrieval.hybrid import Hit, Retriever, Window
from guard.retrieval.scorer import WINDOWS

TOGETHER = 32
"""Conversations that are scored at once; more cost no less and take memory."""

_Waiting = tuple[Sequence[str], asyncio.Future[tuple[Hit, ...]]]


class Batch:
    """Gathers conversations while each turn of the loop brings more; one alone waits for none."""

    def __init__(self, max_sections: int) -> None:
        """Set how many hits a conversation gets at most."""
        self._max_sections = max_sections
        self._waiting: dict[Retriever, list[_Waiting]] = {}

    async def retrieve(self, retriever: Retriever, texts: Sequence[str]) -> tuple[Hit, ...]:
        """What ``Retriever.retrieve`` gives for the texts, in the next turn of the loop.

        Args:
            retriever: Of the policy that is asked about.
            texts: The texts of a conversation, newest first.
        """
        loop = asyncio.get_running_loop()
        if retriever not in self._waiting:
            self._waiting[retriever] = []
            loop.call_soon(self._score, retriever, 0)
        hits: asyncio.Future[tuple[Hit, ...]] = loop.create_future()
        self._waiting[retriever].append((texts, hits))
        return await hits

    def _score(self, retriever: Retriever, before: int) -> None:
        """Score what waits, unless this turn has brought more: then the next one may as well."""
        waiting = len(self._waiting[retriever])
        if 1 < waiting < TOGETHER and waiting > before:
            asyncio.get_running_loop().call_soon(self._score, retriever, waiting)
            return
        every = self._waiting.pop(retriever)
        for at in range(0, len(every), TOGETHER):
            self._answer(retriever, every[at : at + TOGETHER])

    def _answer(self, retriever: Retriever, some: Sequence[_Waiting]) -> None:
        try:
            found = self._hits(retriever, retriever.windows_of([texts for texts, _ in some]))
        except Exception as error:  # a callback of the loop has nobody to raise to
            for _, hits in some:
                if not hits.done():
                    hits.set_exception(error)
            return
        for (_, hits), result in zip(some, found, strict=True):
            if not hits.done():  # its client has gone
                hits.set_result(result)

    def _hits(
        self, retriever: Retriever, conversations: Sequence[tuple[Window, ...]]
    ) -> list[tuple[Hit, ...]]:
        """The hits of each; a long one is scored alone, for it gains nothing by company and takes memory."""
        most = self._max_sections
        short = [windows for windows in conversations if 0 < len(windows) <= WINDOWS]
        together = iter(retriever.hits(short, max_sections=most) if short else ())
        found: list[tuple[Hit, ...]] = []
        for windows in conversations:
            if len(windows) > WINDOWS:
                found += retriever.hits([windows], max_sections=most)
            else:
                found.append(next(together) if windows else ())
        return found
