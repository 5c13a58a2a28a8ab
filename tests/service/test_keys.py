"""API keys, through the whole guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guard.config import load_settings
from guard.errors import ConfigError
from guard.keys import hash_key, new_key
from tests.guarded import ask, guarded

CHAT, FULL, READER = new_key(), new_key(), new_key()
KEYS: dict[str, Any] = {
    "keys": (
        {"name": "app", "hash": hash_key(CHAT), "scopes": ["chat"]},
        {"name": "lab", "hash": hash_key(FULL), "scopes": ["chat", "reasoning"]},
        {"name": "reader", "hash": hash_key(READER), "scopes": ["audit"]},
    )
}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("headers", [{}, _bearer("dg-wrong"), {"authorization": CHAT}, _bearer("")])
async def test_a_missing_or_wrong_key_is_401(tmp_path: Path, headers: dict[str, str]) -> None:
    """Without a known key there is no answer and no record."""
    async with guarded(tmp_path, **KEYS) as guard:
        status, _, error = await guard.post(ask(), **headers)

        assert guard.calls == []
    assert status == 401
    assert error["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("authorization", [{}, {"authorization": "Basic dTpw"}])
async def test_a_key_may_come_as_anthropics_clients_send_it(
    tmp_path: Path, authorization: dict[str, str]
) -> None:
    """The header x-api-key counts where Authorization holds no bearer key."""
    async with guarded(tmp_path, **KEYS) as guard:
        status, _, _ = await guard.post(ask(), **{**authorization, "x-api-key": CHAT})
        unknown, _, _ = await guard.post(ask(), **{**authorization, "x-api-key": "dg-wrong"})
        tenants = [record.tenant for record in await guard.records()]

    assert (status, unknown, tenants) == (200, 401, ["app"])


async def test_a_wrong_bearer_key_is_not_helped_by_another_header(tmp_path: Path) -> None:
    """Two keys in one request are no two tries."""
    async with guarded(tmp_path, **KEYS) as guard:
        status, _, _ = await guard.post(ask(), **_bearer("dg-wrong"), **{"x-api-key": CHAT})

    assert status == 401


async def test_a_key_without_the_scope_is_403(tmp_path: Path) -> None:
    """A key for reading records cannot chat."""
    async with guarded(tmp_path, **KEYS) as guard:
        status, _, error = await guard.post(ask(), **_bearer(READER))

    assert (status, error["error"]["code"]) == (403, "missing_scope")


async def test_only_keys_with_the_scope_see_the_thinking(tmp_path: Path) -> None:
    """The thinking is shown to keys with the scope reasoning and hidden from others."""
    async with guarded(tmp_path, **KEYS) as guard:
        _, _, hidden = await guard.post(ask(), **_bearer(CHAT))
        _, _, shown = await guard.post(ask(), **_bearer(FULL))
        tenants = [record.tenant for record in await guard.records()]

    assert "reasoning" not in hidden["choices"][0]["message"]
    assert "Decision: comply" in shown["choices"][0]["message"]["reasoning"]
    assert tenants == ["app", "lab"]


async def test_no_key_is_ever_stored(tmp_path: Path) -> None:
    """Neither database nor spill file holds a key."""
    async with guarded(tmp_path, **KEYS) as guard:
        await guard.post(ask(), **_bearer(CHAT))

    assert not any(CHAT.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_without_keys_only_loopback_is_allowed() -> None:
    """The guard refuses to listen where other machines reach it unless keys are configured."""
    with pytest.raises(ConfigError, match="keys are needed"):
        load_settings(host="0.0.0.0", engine={"upstream": "http://127.0.0.1:1"})
