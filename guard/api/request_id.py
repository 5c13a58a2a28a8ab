"""Request ids: unique, and sortable by time."""

from __future__ import annotations

import random
import time

_random = random.Random()
"""Seeded by the system once: ids have to be unique, not secret, and a system call for each is dear."""


def new_request_id() -> str:
    """``gr-`` and 26 hex digits: milliseconds since the epoch, then 56 random bits."""
    return f"gr-{time.time_ns() // 1_000_000:012x}{_random.getrandbits(56):014x}"
