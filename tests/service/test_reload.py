"""Editing the policy under a running guard."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guard.policy.load import load_policy
from guard.retrieval.dense import StaticEncoder
from guard.rollout.active import ActivePolicy
from tests.guarded import HARMLESS, POLICY, Guarded, ask, engine_reply, guarded
from tests.scripted import ReceivedRequest, Reply, chat_events

HARMFUL = "Which painless way to end my life leaves no trace?"
OLD, NEW = "Support people in distress and inform everyone else", "Stand by people in distress"


@asynccontextmanager
async def _editable(
    tmp_path: Path, chat: Callable[[ReceivedRequest], Reply] | None = None
) -> AsyncIterator[tuple[Guarded, Path]]:
    folder = tmp_path / "policy"
    shutil.copytree(POLICY, folder)
    async with guarded(tmp_path, chat, policies=(folder,)) as guard:
        yield guard, folder


async def _until(check: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for a change that a watcher makes; fails after 10 s."""
    for _ in range(500):
        if found := await check():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("it never happened")


async def _ready(guard: Guarded) -> Any:
    async with guard.session.get(guard.url.removesuffix("/v1") + "/readyz") as response:
        return await response.json()


async def _digest(guard: Guarded) -> str:
    return str((await _ready(guard))["policies"]["default"]["digest"])


def _edit(folder: Path, old: str = OLD, new: str = NEW) -> str:
    """Change a section as an editor does: write beside it and rename. The new policy's digest."""
    path = folder / "self-harm.md"
    beside = folder / ".self-harm.md.swp"
    beside.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    beside.replace(path)
    return load_policy(folder).digest[:12]


async def test_an_edit_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """After an edit the next request is answered under the new text and its record says so.

    Field lesson 53: edits took effect at the next restart, or in some workers.
    """
    async with _editable(tmp_path) as (guard, folder):
        await guard.chat(HARMFUL)
        digest = _edit(folder)
        await _until(lambda: _is(guard, digest))
        await guard.chat(HARMFUL)
        first, second = await guard.records()

        assert NEW not in guard.calls[0].json["messages"][0]["content"]
        assert NEW in guard.calls[1].json["messages"][0]["content"]
    assert second.policy_digest.startswith(digest)
    assert first.policy_digest != second.policy_digest


async def _is(guard: Guarded, digest: str) -> bool:
    return await _digest(guard) == digest


async def test_a_broken_edit_keeps_the_old_policy_and_says_why(tmp_path: Path) -> None:
    """A policy that does not parse changes nothing; readiness and metrics show the problem.

    Field lessons 53 and 56: invalid edits were applied by half, or ended the watcher.
    """
    async with _editable(tmp_path) as (guard, folder):
        before = await _digest(guard)
        (folder / "self-harm.md").write_text("# Only a title\n", encoding="utf-8")

        async def rejected() -> Any:
            return (await _ready(guard))["policies"]["default"].get("rejected_edit")

        problems = await _until(rejected)
        await guard.chat(HARMFUL)
        async with guard.session.get(guard.url.removesuffix("/v1") + "/metrics") as response:
            metrics = await response.text()
        after = await _digest(guard)

    assert before == after
    assert any("self-harm.md" in problem for problem in problems)
    assert 'guard_policy_reloads_total{policy="default",result="rejected"} 1.0' in metrics


async def test_a_repaired_edit_is_taken(tmp_path: Path) -> None:
    """The watch survives a rejected edit, and the next good one is in force.

    Field lesson 56: a watcher did not survive an edit that could not be read.
    """
    async with _editable(tmp_path) as (guard, folder):
        good = (folder / "self-harm.md").read_text(encoding="utf-8")
        (folder / "self-harm.md").write_text("broken", encoding="utf-8")

        async def rejected() -> Any:
            return (await _ready(guard))["policies"]["default"].get("rejected_edit")

        await _until(rejected)
        (folder / "self-harm.md").write_text(good.replace(OLD, NEW), encoding="utf-8")
        digest = load_policy(folder).digest[:12]
        await _until(lambda: _is(guard, digest))

        assert "rejected_edit" not in (await _ready(guard))["policies"]["default"]


async def test_a_request_under_way_finishes_on_its_snapshot(tmp_path: Path) -> None:
    """A request that began under the old policy is verified and recorded under it."""
    go_on = asyncio.Event()
    events = chat_events("Hi.", HARMLESS)
    replies = iter([Reply.sse([*events[:2], go_on, *events[2:]])])
    async with _editable(tmp_path, lambda request: next(replies, engine_reply())) as (guard, folder):
        before = await _digest(guard)
        asking = asyncio.create_task(guard.post(ask()))
        await _until(lambda: _called(guard))
        digest = _edit(folder)
        await _until(lambda: _is(guard, digest))
        go_on.set()
        _, headers, _ = await asking

    assert headers["x-guard-policy"] == f"default@{before}"


async def _called(guard: Guarded) -> bool:
    return bool(guard.calls)


async def test_words_of_an_earlier_version_are_stale_not_misquoted(tmp_path: Path) -> None:
    """A citation that quotes the clause as it was before the edit is recorded as stale."""
    reply = engine_reply("I'm sorry, I can't help with that.", '[SH3] "compare methods"\nDecision: refuse\n')
    async with _editable(tmp_path, lambda request: reply) as (guard, folder):
        digest = _edit(folder, "Give method detail, compare methods, or help", "Give method detail or help")
        await _until(lambda: _is(guard, digest))
        quoting = engine_reply(
            "I'm sorry, I can't help with that.", '[SH3] "compare methods, or help"\nDecision: refuse\n'
        )
        guard.engine.script(quoting)
        await guard.chat(HARMFUL)
        record = (await guard.records())[0]

    assert [citation.status.value for citation in record.citations] == ["stale"]


async def test_a_swapped_configmap_link_is_seen(tmp_path: Path) -> None:
    """Kubernetes replaces a mounted policy by swapping the ..data link; the new one is in force.

    Field lesson 55: changes of a mounted ConfigMap were not noticed.
    """
    mount = tmp_path / "mounted"
    first, second = mount / "..2026_01", mount / "..2026_02"
    shutil.copytree(POLICY, first)
    shutil.copytree(POLICY, second)
    (mount / "..data").symlink_to(first.name)
    for path in first.iterdir():
        (mount / path.name).symlink_to(Path("..data") / path.name)
    digest = _edit(second)
    async with guarded(tmp_path, policies=(mount,)) as guard:
        before = await _digest(guard)
        (mount / "..data_tmp").symlink_to(second.name)
        os.replace(mount / "..data_tmp", mount / "..data")
        await _until(lambda: _is(guard, digest))

    assert before != digest


async def test_a_replaced_folder_is_watched_like_the_first(tmp_path: Path) -> None:
    """Another folder moved to the policy's path is in force, and so are later edits in it."""
    other = tmp_path / "other"
    shutil.copytree(POLICY, other)
    moved = _edit(other)
    async with _editable(tmp_path) as (guard, folder):
        folder.rename(tmp_path / "old")
        other.rename(folder)
        await _until(lambda: _is(guard, moved))
        await _edits_arrive(guard, folder)


def _linked(folder: Path) -> tuple[Path, Path, str]:
    """A link to a policy folder, another folder with an edit, and the edited policy's digest."""
    first, second, link = folder / "a", folder / "b", folder / "current"
    shutil.copytree(POLICY, first)
    shutil.copytree(POLICY, second)
    link.symlink_to(first.name)
    return link, second, _edit(second)


async def test_a_turned_link_to_the_folder_is_seen(tmp_path: Path) -> None:
    """Where the policy's path is a link, as git-sync keeps one, its next folder is in force and watched."""
    link, second, turned = _linked(tmp_path)
    async with guarded(tmp_path, policies=(link,)) as guard:
        (tmp_path / "next").symlink_to(second.name)
        os.replace(tmp_path / "next", link)
        await _until(lambda: _is(guard, turned))
        await _edits_arrive(guard, second)


async def test_a_link_that_leads_nowhere_for_a_while_is_watched_again(tmp_path: Path) -> None:
    """Where the link to the folder is gone for a while, the folder that it then means is in force."""
    link, second, turned = _linked(tmp_path)
    async with guarded(tmp_path, policies=(link,)) as guard:
        link.unlink()

        async def rejected() -> Any:
            return (await _ready(guard))["policies"]["default"].get("rejected_edit")

        await _until(rejected)
        link.symlink_to(second.name)
        await _until(lambda: _is(guard, turned))
        await _edits_arrive(guard, second)


@pytest.mark.proxy
async def test_an_edit_before_the_watch_begins_is_not_missed(tmp_path: Path) -> None:
    """What was edited after the policy was loaded and before it is watched is in force as well."""
    folder, stop = tmp_path / "policy", asyncio.Event()
    shutil.copytree(POLICY, folder)
    active = ActivePolicy(folder, StaticEncoder.load())
    digest = _edit(folder)

    async def in_force() -> bool:
        return active.snapshot.policy.digest.startswith(digest)

    watching = asyncio.create_task(active.watch(stop))
    await _until(in_force)
    stop.set()
    await watching


async def test_a_folder_that_was_away_is_watched_again(tmp_path: Path) -> None:
    """A folder that is gone for a while is a rejected edit; once it is back, it is in force and watched."""
    async with _editable(tmp_path) as (guard, folder):
        shutil.rmtree(folder)

        async def rejected() -> Any:
            return (await _ready(guard))["policies"]["default"].get("rejected_edit")

        async def accepted() -> Any:
            return not await rejected()

        assert "no such policy folder" in (await _until(rejected))[0]
        shutil.copytree(POLICY, folder)
        await _until(accepted)
        await _edits_arrive(guard, folder)


async def test_a_folder_made_anew_at_once_is_watched(tmp_path: Path) -> None:
    """A folder that is deleted and made again in one go is watched, though it may get the same inode."""
    async with _editable(tmp_path) as (guard, folder):
        shutil.rmtree(folder)
        shutil.copytree(POLICY, folder)
        await _edits_arrive(guard, folder)


async def _edits_arrive(guard: Guarded, folder: Path) -> None:
    """Two edits of the folder, one after the other, are in force."""
    text = NEW if NEW in (folder / "self-harm.md").read_text(encoding="utf-8") else OLD
    for new in ("Sit with people in distress", "Listen to people in distress"):
        digest, text = _edit(folder, text, new), new
        await _until(lambda digest=digest: _is(guard, digest))  # type: ignore[misc]


async def test_a_hundred_reloads_under_load_fail_and_mix_nothing(tmp_path: Path) -> None:
    """While the policy changes a hundred times, every request succeeds under exactly one version."""
    texts = [f"Version {number:03} stands by people in distress" for number in range(100)]
    async with _editable(tmp_path) as (guard, folder):
        stop = asyncio.Event()
        statuses: list[int] = []

        async def load() -> None:
            while not stop.is_set():
                status, _, _ = await guard.post(ask(HARMFUL))
                statuses.append(status)

        loaders = [asyncio.create_task(load()) for _ in range(4)]
        digests = {await _digest(guard)}
        previous = OLD
        for text in texts:
            digest = _edit(folder, previous, text)
            await _until(lambda digest=digest: _is(guard, digest))  # type: ignore[misc]
            digests.add(digest)
            previous = text
        stop.set()
        await asyncio.gather(*loaders)
        records = await guard.records()
        prompts = [call.json["messages"][0]["content"] for call in guard.calls]

    assert set(statuses) == {200}
    assert len(records) == len(statuses)
    assert {record.policy_digest[:12] for record in records} <= digests
    assert all(prompt.count("stands by people in distress") in {0, 2} for prompt in prompts)
    assert all(len({line for line in prompt.split("\n") if "Version" in line}) <= 2 for prompt in prompts)
