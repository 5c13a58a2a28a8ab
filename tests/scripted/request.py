"""What a scripted engine received."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass
class ReceivedRequest:
    """One request as the engine saw it."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client left before its reply was complete."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the reply was sent to its end."""

    @cached_property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)
