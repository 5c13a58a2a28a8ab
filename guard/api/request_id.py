"""Request ids: unique, and sortable by time."""

from __future__ import annotations

import os
import time


def new_request_id() -> str:
    """``gr-`` and 26 hex digits: milliseconds since the epoch, then 56 random bits."""
    return f"gr-{time.time_ns() // 1_000_000:012x}{os.urandom(7).hex()}"
