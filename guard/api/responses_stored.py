"""Stored responses as requests use them: the conversation to go on with, and items referred to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from guard.api.responses_ids import response_of_item
from guard.api.state import RequestLimits
from guard.audit.responses import ResponseStore, StoredResponse
from guard.errors import AuditError, InvalidRequest, NotFound, Overloaded

Item = Mapping[str, Any]


class StoredItems:
    """The stored items of one tenant, read for one request and no larger than one."""

    def __init__(self, store: ResponseStore, tenant: str, limits: RequestLimits) -> None:
        """Nothing is read yet.

        Args:
            store: Where responses are kept.
            tenant: Whose are read.
            limits: What one request may bring; what it refers to is bounded alike.
        """
        self._store = store
        self._tenant = tenant
        self._limits = limits
        self._read: dict[str, dict[str, Item]] = {}
        self._size = 0

    async def before(self, response_id: str | None) -> list[Item]:
        """The conversation up to a response and with it, oldest first.

        Raises:
            InvalidRequest: The response or one before it is not there, or it is all too long.
            Overloaded: The store cannot be read.
        """
        if response_id is None:
            return []
        async with reachable():
            found = await self._store.conversation(
                response_id,
                self._tenant,
                max_turns=self._limits.messages,
                max_size=self._limits.body_bytes,
            )
        if not found.turns:
            raise _unusable(
                f"Previous response with id {response_id!r} not found.", "previous_response_not_found"
            )
        if found.size > self._limits.body_bytes or (
            not found.whole and len(found.turns) >= self._limits.messages
        ):
            raise _unusable(
                f"The conversation up to {response_id!r} is too long to go on with.",
                "context_length_exceeded",
            )
        if not found.whole:
            missing = found.turns[0].previous_id
            raise _unusable(
                f"The conversation up to {response_id!r} is no longer whole: {missing!r} was deleted.",
                "previous_response_not_found",
            )
        return [item for turn in found.turns for item in items_of(turn)]

    async def resolved(self, given: str | Sequence[Item]) -> str | list[Item]:
        """The input with each reference replaced by what it refers to.

        Raises:
            NotFound: An item is not there.
            InvalidRequest: What is referred to is too much.
            Overloaded: The store cannot be read.
        """
        if isinstance(given, str):
            return given
        return [item if not _is_reference(item) else await self._item(item["id"]) for item in given]

    async def _item(self, item_id: str) -> Item:
        response_id = response_of_item(item_id)
        if response_id is not None and response_id not in self._read:
            async with reachable():
                stored = await self._store.get(response_id, self._tenant)
            items = items_of(stored) if stored else []
            self._read[response_id] = {item["id"]: item for item in items}
            self._grow(len(stored.input) + len(stored.body) if stored else 0)
        item = self._read.get(response_id or "", {}).get(item_id)
        if item is None:
            raise NotFound(
                f"Item with id {item_id!r} not found. Items of responses with store: false are not kept.",
                param="input",
                code="item_not_found",
            )
        self._grow(len(orjson.dumps(item)))
        return item

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.body_bytes:
            raise InvalidRequest("The items referred to are too long together.", param="input")


@asynccontextmanager
async def reachable() -> AsyncIterator[None]:
    """Turn a failing store into an answer that says so.

    Raises:
        Overloaded: The store cannot be read.
    """
    try:
        yield
    except AuditError as error:
        told = Overloaded(
            "Stored responses cannot be reached now. Try again later.", code="store_unavailable"
        )
        told.add_note(str(error))
        raise told from error


def items_of(stored: StoredResponse) -> list[Item]:
    """What a turn brought and what it gave."""
    given: list[Item] = orjson.loads(stored.input)
    return given + list(orjson.loads(stored.body)["output"])


def _is_reference(item: Item) -> bool:
    return item.get("type") == "item_reference" or ("role" not in item and item.get("type") is None)


def _unusable(message: str, code: str) -> InvalidRequest:
    return InvalidRequest(message, param="previous_response_id", code=code)
