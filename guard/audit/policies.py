"""The versions of policies on their way to the store, which may be away when one comes into force."""

from __future__ import annotations

import asyncio

import structlog

from guard.audit.store import AuditStore
from guard.errors import AuditError
from guard.policy.model import Policy

RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


class PolicyKeeper:
    """Stores every version; one that the database does not take waits until it does."""

    def __init__(self, store: AuditStore) -> None:
        """Nothing is stored before ``keep``.

        Args:
            store: Open; its schema may still be missing.
        """
        self._store = store
        self._waiting: dict[str, Policy] = {}
        """By digest, in the order in which they came into force."""
        self._arrived = asyncio.Event()

    async def keep(self, policy: Policy) -> None:
        """Store a version, now or as soon as the database takes it."""
        if await self._saved(policy):
            self._waiting.pop(policy.digest, None)
        else:
            self._waiting[policy.digest] = policy
            self._arrived.set()

    async def retry(self, every: float = RETRY_SECONDS) -> None:
        """Store what waits, again and again until it is stored; runs until cancelled.

        Args:
            every: Seconds between two tries.
        """
        while True:
            await self._arrived.wait()
            await asyncio.sleep(every)
            for policy in list(self._waiting.values()):
                if not await self._saved(policy):
                    break
                self._waiting.pop(policy.digest, None)  # it may have come into force again meanwhile
            if not self._waiting:
                self._arrived.clear()

    async def _saved(self, policy: Policy) -> bool:
        """Try once; whether it is stored."""
        waits = policy.digest in self._waiting
        try:
            await self._store.save_policy(policy)
        except AuditError as error:
            if not waits:  # said once
                log.error("policy version not stored yet", digest=policy.digest[:12], reason=str(error))
            return False
        if waits:
            log.info("policy version stored", digest=policy.digest[:12])
        return True
