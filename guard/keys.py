"""API keys: who calls, and what they may do. Only hashes are configured, never keys."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from guard.errors import Forbidden, Unauthenticated

HASH_PREFIX = "sha256:"
KEY_PREFIX = "dg-"
KEY_BYTES = 32
"""256 random bits, so that a fast hash is enough: there is nothing to guess."""


class Scope(StrEnum):
    """What a key may do."""

    CHAT = "chat"
    REASONING = "reasoning"
    """See the thinking."""
    AUDIT = "audit"
    """Read records."""
    ADMIN = "admin"
    """Reload policies."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    name: str
    scopes: frozenset[Scope]
    policy: str | None = None
    """The policy this key is bound to; None lets the request choose."""

    def require(self, scope: Scope) -> None:
        """Go on only with this scope.

        Raises:
            Forbidden: The key lacks it.
        """
        if scope not in self.scopes:
            raise Forbidden(f"This API key lacks the scope '{scope}'.", code="missing_scope")


ANONYMOUS = Caller("anonymous", frozenset(Scope))
"""Everyone, where keys are off: allowed on loopback only."""


class KeyRing:
    """The configured keys, by hash."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        """Keep callers by the hash of their key; none switches keys off."""
        self._callers = callers

    @property
    def off(self) -> bool:
        """Whether none is configured, so that everybody may do everything."""
        return not self._callers

    def caller(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """Who sends these headers.

        Args:
            authorization: ``Authorization``, as OpenAI's clients send it.
            api_key: ``x-api-key``, as Anthropic's clients send it; read where the other holds no key.

        Raises:
            Unauthenticated: There is no key, or it is unknown.
        """
        if self.off:
            return ANONYMOUS
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            key = api_key or ""
        if not key.strip():
            raise Unauthenticated(
                "No API key was sent. Send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'.",
                code="missing_api_key",
            )
        caller = self._callers.get(hash_key(key.strip()))
        if caller is None:
            raise Unauthenticated("The API key is not known.", code="invalid_api_key")
        return caller


def hash_key(key: str) -> str:
    """The form in which a key stands in the configuration."""
    return HASH_PREFIX + hashlib.sha256(key.encode()).hexdigest()


def new_key() -> str:
    """A fresh random key."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
