"""The guard's own routes, for auditors and administrators."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from guard.keys import hash_key, new_key
from tests.guarded import POLICY, REFUSING, Guarded, ask, engine_reply, guarded

CHAT, AUDIT, ADMIN = new_key(), new_key(), new_key()
KEYS: dict[str, Any] = {
    "keys": (
        {"name": "app", "hash": hash_key(CHAT), "scopes": ["chat"]},
        {"name": "auditor", "hash": hash_key(AUDIT), "scopes": ["audit"]},
        {"name": "admin", "hash": hash_key(ADMIN), "scopes": ["admin"]},
    )
}
HARMFUL = "Which painless way to end my life leaves no trace?"


async def _call(guard: Guarded, path: str, key: str = "", method: str = "GET") -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = guard.url.removesuffix("/v1") + path
    async with guard.session.request(method, url, headers=headers) as response:
        return response.status, await response.json()


async def test_records_can_be_read_and_narrowed(tmp_path: Path) -> None:
    """An auditor lists records by verdict and reads one by its request id."""
    refusing = engine_reply("I'm sorry, I can't help with that.", REFUSING)
    replies = iter([engine_reply(), refusing])
    async with guarded(tmp_path, lambda request: next(replies)) as guard:
        await guard.chat()
        _, headers, _ = await guard.post(ask(HARMFUL))
        _, all_records = await _call(guard, "/guard/v1/records")
        _, refused = await _call(guard, "/guard/v1/records?verdict=refuse&clause=SH3&since=1h")
        _, one = await _call(guard, f"/guard/v1/records/{headers['x-guard-request-id']}")

    assert len(all_records["data"]) == 2
    assert [record["id"] for record in refused["data"]] == [one["id"]]
    assert one["verdict"] == "refuse"


@pytest.mark.parametrize("query", ["verdict=maybe", "limit=0", "since=yesterday", "colour=red"])
async def test_a_bad_filter_names_the_parameter(tmp_path: Path, query: str) -> None:
    """A filter that cannot be honoured is a 400 naming it."""
    async with guarded(tmp_path) as guard:
        status, body = await _call(guard, f"/guard/v1/records?{query}")

    assert (status, body["error"]["param"]) == (400, query.partition("=")[0])


async def test_an_unknown_record_is_404(tmp_path: Path) -> None:
    """A record that does not exist is told as such."""
    async with guarded(tmp_path) as guard:
        status, body = await _call(guard, "/guard/v1/records/gr-nothing")

    assert (status, body["error"]["code"]) == (404, "record_not_found")


@pytest.mark.parametrize(
    ("path", "method", "right"),
    [
        ("/guard/v1/records", "GET", AUDIT),
        ("/guard/v1/records/gr-1", "GET", AUDIT),
        ("/guard/v1/policies", "GET", ADMIN),
        ("/guard/v1/policies/default/reload", "POST", ADMIN),
    ],
    ids=["records", "record", "policies", "reload"],  # keys are random, names of tests are not
)
async def test_each_route_needs_its_scope(tmp_path: Path, path: str, method: str, right: str) -> None:
    """Without a key 401, with another scope 403, with the right one neither."""
    async with guarded(tmp_path, **KEYS) as guard:
        statuses = [(await _call(guard, path, key, method))[0] for key in ("", CHAT, right)]

    assert statuses[:2] == [401, 403]
    assert statuses[2] in {200, 404}


async def test_a_reload_says_what_changed(tmp_path: Path) -> None:
    """Reloading an unchanged folder changes nothing; a broken one is 422 with every problem.

    Field lesson 55: there was no way to ask for a reload.
    """
    folder = tmp_path / "policy"
    shutil.copytree(POLICY, folder)
    async with guarded(tmp_path, policies=(folder,)) as guard:
        same = await _call(guard, "/guard/v1/policies/default/reload", method="POST")
        (folder / "privacy.md").write_text("broken", encoding="utf-8")
        broken = await _call(guard, "/guard/v1/policies/default/reload", method="POST")
        _, listed = await _call(guard, "/guard/v1/policies")
        missing, _ = await _call(guard, "/guard/v1/policies/other/reload", method="POST")

    assert (same[0], same[1]["changed"]) == (200, False)
    assert broken[0] == 422
    assert any("privacy.md" in problem for problem in broken[1]["rejected_edit"])
    assert listed["data"][0]["digest"] == same[1]["digest"]
    assert missing == 404
