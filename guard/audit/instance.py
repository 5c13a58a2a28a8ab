"""Which guard process wrote a record, so that a later one can tell what a dead one left unfinished."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Instance:
    """One run of a guard process."""

    host: str
    pid: int
    nonce: str
    """Tells this run from an earlier one with the same number, as in a restarted container."""

    @classmethod
    def current(cls) -> Self:
        """This process, as a new run."""
        return cls(socket.gethostname(), os.getpid(), secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what ``str`` wrote; None where it is something else."""
        host, _, rest = text.rpartition("/")
        pid, _, nonce = rest.partition("-")
        return cls(host, int(pid), nonce) if host and nonce and pid.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}-{self.nonce}"

    def outlived(self, other: Instance) -> bool:
        """Whether ``other`` is known to be dead: a run on this host whose process is gone."""
        if other.host != self.host or other == self:
            return False
        if other.pid == self.pid:
            return True
        try:
            os.kill(other.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # someone else's process has the number
            return False
        return False
