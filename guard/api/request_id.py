"""Request ids: unique, and sortable by time."""

from __future__ import annotations

import secrets
import time


def new_request_id() -> str:
    """``gr-`` and 26 hex digits: milliseconds since the epoch, then 56 random bits."""
    return f"gr-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(7)}"
