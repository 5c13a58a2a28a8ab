"""The policy in force for one folder: loaded, reloaded, swapped by one reference.

A request takes ``snapshot`` once and keeps it; a reload builds the next snapshot beside it and then
replaces the reference. A policy that cannot be used changes nothing and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from guard.errors import PolicyError, Problem
from guard.policy.load import MANIFEST, SectionCache, load_policy
from guard.policy.model import Policy
from guard.retrieval.dense import StaticEncoder
from guard.rollout.snapshot import Snapshot, build_snapshot

LOOK_SECONDS = 2.0
"""Between two looks at whether the path still means the folder that is watched."""
SETTLE_MS = 50
"""Changes closer together than this are one edit: editors and symlink swaps come in bursts."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ReloadResult:
    """How a reload went."""

    changed: bool
    problems: tuple[str, ...]
    seconds: float


class ActivePolicy:
    """One policy folder and its current snapshot."""

    def __init__(self, folder: Path, encoder: StaticEncoder) -> None:
        """Load the folder for the first time.

        Raises:
            PolicyError: It is not a usable policy.
        """
        self.folder = folder
        self._encoder = encoder
        self._cache = SectionCache()
        self._reloading = asyncio.Lock()
        self._watched = True
        """Whether the watch goes well; where it does not, that is logged once."""
        self._told: Callable[[ReloadResult], Awaitable[None]] | None = None
        self.snapshot: Snapshot = build_snapshot(load_policy(folder, self._cache), encoder)
        self.problems: tuple[str, ...] = ()
        """Why the last reload was rejected; empty where the files and the snapshot agree."""

    @property
    def name(self) -> str:
        """The policy's name, by which requests choose it."""
        return self.snapshot.policy.name

    def remember(self, earlier: list[Policy]) -> None:
        """Let citations of these earlier versions count as stale rather than unknown."""
        self.snapshot = self.snapshot.remembering(earlier)

    def tell(self, told: Callable[[ReloadResult], Awaitable[None]]) -> None:
        """Call this after every reload that changed the policy or was rejected."""
        self._told = told

    async def reload(self) -> ReloadResult:
        """Read the folder again; on success the new snapshot is in force when this returns."""
        async with self._reloading:  # two edits in a row: the later one must win
            result = await self._reload()
        if self._told and (result.changed or result.problems):
            await self._told(result)
        return result

    async def _reload(self) -> ReloadResult:
        started = time.perf_counter()
        old = self.snapshot
        try:
            new = await asyncio.to_thread(self._build, old)
        except PolicyError as error:
            self.problems = tuple(map(str, error.problems))
            log.error("policy rejected", folder=str(self.folder), problems=self.problems)
            return ReloadResult(False, self.problems, time.perf_counter() - started)
        self.problems = ()
        if new is old:
            return ReloadResult(False, (), time.perf_counter() - started)
        self.snapshot = new
        seconds = time.perf_counter() - started
        log.info(
            "policy in force",
            policy=new.policy.name,
            version=new.policy.version,
            digest=new.policy.digest[:12],
            before=old.policy.digest[:12],
            seconds=round(seconds, 3),
        )
        return ReloadResult(True, (), seconds)

    def _build(self, old: Snapshot) -> Snapshot:
        policy = load_policy(self.folder, self._cache)
        if policy.name != old.policy.name:
            raise PolicyError([_renamed(self.folder, old.policy.name, policy.name)])
        return old if policy.digest == old.policy.digest else build_snapshot(policy, self._encoder, old)

    async def watch(self, stop: asyncio.Event) -> None:
        """Reload whenever a file of the folder changes, until ``stop`` is set.

        The swap of a Kubernetes ConfigMap's ``..data`` link is a change in the folder like any
        other. A folder that is replaced, or found by a link that is turned, is watched anew; one that
        is away or unreadable for a while is watched again when it is back. A rejected reload does not
        end the watch.
        """
        while not stop.is_set():
            try:
                await self._watch_one(stop)
            except Exception as error:  # the folder is away, or a bug: neither ends the watch
                if self._watched:
                    log.error("policy folder not watched", folder=str(self.folder), reason=repr(error))
                self._watched = False
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), LOOK_SECONDS)

    async def _watch_one(self, stop: asyncio.Event) -> None:
        """Watch until the path means another folder.

        Raises:
            OSError: It means none, or one that cannot be read.
        """
        folder = self.folder.absolute()
        begun = folder.stat()
        missed = True  # whatever was edited before this watch began
        looks = int(LOOK_SECONDS * 1000)
        watching = awatch(folder, stop_event=stop, step=SETTLE_MS, rust_timeout=looks, yield_on_timeout=True)
        async with contextlib.aclosing(watching) as rounds:
            async for changes in rounds:
                self._watched = True
                # A folder made right after the deletion of another may get its inode.
                same = (Change.deleted, str(folder)) not in changes and _is_at(folder, begun)
                if changes or missed or not same:
                    missed = False
                    await self.reload()
                if not same:
                    return


def _is_at(path: Path, status: os.stat_result) -> bool:
    """Whether a path still means the folder that had this status."""
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _renamed(folder: Path, old: str, new: str) -> Problem:
    message = f"name changed from {old!r} to {new!r}; serve a renamed policy by a restart"
    return Problem(str(folder / MANIFEST), 0, message)
