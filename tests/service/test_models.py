"""The names under which models are offered, and the policies that they name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from guard.keys import hash_key, new_key
from tests.guarded import POLICY, ask, guarded

BOUND = new_key()
FREE = new_key()
KEYS = (
    {"name": "bound", "hash": hash_key(BOUND), "scopes": ["chat"], "policy": "strict"},
    {"name": "free", "hash": hash_key(FREE), "scopes": ["chat"]},
)


@pytest.fixture
def both(tmp_path: Path) -> dict[str, Any]:
    """Settings with two policies, ``default`` and ``strict``."""
    folder = tmp_path / "strict"
    shutil.copytree(POLICY, folder)
    manifest = folder / "policy.yaml"
    text = manifest.read_text(encoding="utf-8")
    assert "name: default\n" in text
    manifest.write_text(text.replace("name: default\n", "name: strict\n"), encoding="utf-8")
    return {"policies": (POLICY, folder)}


async def _offered(guard: Any, key: str = "") -> list[str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with guard.session.get(f"{guard.url}/models", headers=headers) as response:
        return [model["id"] for model in (await response.json())["data"]]


async def test_one_policy_needs_no_name(tmp_path: Path) -> None:
    """Where one policy is served, the names are ``default`` and the engine's own."""
    async with guarded(tmp_path) as guard:
        names = await _offered(guard)

    assert names[0] == "default"
    assert not any("@" in name for name in names)


async def test_every_policy_has_a_name_of_its_own(tmp_path: Path, both: dict[str, Any]) -> None:
    """A client that can set nothing but the model chooses the policy by it, and the record says which."""
    async with guarded(tmp_path, **both) as guard:
        names = await _offered(guard)
        _, plain, _ = await guard.post(ask())
        status, named, answer = await guard.post({**ask(), "model": "default@strict"})
        records = await guard.records()

    assert {"default", "default@default", "default@strict"} <= set(names)
    assert status == 200
    assert answer["model"] == "default@strict"
    assert (plain["x-guard-policy"].split("@")[0], named["x-guard-policy"].split("@")[0]) == (
        "default",
        "strict",
    )
    assert sorted(record.policy for record in records) == ["default", "strict"]


async def test_header_and_model_must_agree(tmp_path: Path, both: dict[str, Any]) -> None:
    """Nothing is guessed where one request names two policies."""
    asked = {**ask(), "model": "default@strict"}
    async with guarded(tmp_path, **both) as guard:
        agreed, _, _ = await guard.post(asked, **{"x-guard-policy": "strict"})
        status, _, error = await guard.post(asked, **{"x-guard-policy": "default"})
        unknown, _, _ = await guard.post({**ask(), "model": "default@lax"})

    assert (agreed, status, unknown) == (200, 404, 404)
    assert error["error"]["code"] == "policy_not_found"


async def test_a_bound_key_is_offered_its_own_policy_alone(tmp_path: Path, both: dict[str, Any]) -> None:
    """A model's name does not get around the policy that a key is bound to."""
    async with guarded(tmp_path, **both, keys=KEYS) as guard:
        names = await _offered(guard, BOUND)
        around, _, error = await guard.post(
            {**ask(), "model": "default@default"}, authorization=f"Bearer {BOUND}"
        )
        free, headers, _ = await guard.post(
            {**ask(), "model": "default@default"}, authorization=f"Bearer {FREE}"
        )
        async with guard.session.get(
            f"{guard.url}/models/default@default", headers={"authorization": f"Bearer {BOUND}"}
        ) as response:
            hidden = response.status

    assert "default@strict" in names
    assert "default@default" not in names
    assert (around, free, hidden) == (404, 200, 404)
    assert "strict" in error["error"]["message"]
    assert headers["x-guard-policy"].startswith("default@")
