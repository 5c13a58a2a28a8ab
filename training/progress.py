"""How a stage tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def __call__(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a bar over ``total`` things; what is yielded is called with how many were finished."""
