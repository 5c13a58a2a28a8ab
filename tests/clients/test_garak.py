"""garak, the vulnerability scanner, with its generator for OpenAI-compatible servers: short scans."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.clients.engines import ENFORCE, KEY, KEYED
from tests.guarded import REFUSING, Guarded, engine_reply, guarded
from tests.scripted import ReceivedRequest, Reply

GARAK = os.environ.get("GARAK", "")
pytestmark = [
    pytest.mark.client("garak"),
    pytest.mark.skipif(not GARAK, reason="GARAK names no command; make clients installs one"),
]

URLSAFE = str.maketrans("+/", "-_")
PROBE = "probes.encoding.InjectBase64"


async def scan(guard: Guarded, folder: Path, key: str = "none") -> tuple[int, str, list[dict[str, Any]]]:
    """Four prompts of one probe: exit status, what was printed, and the entries of the report."""
    configuration = {
        "run": {"generations": 1, "soft_probe_prompt_cap": 4},
        "plugins": {
            "target_type": "openai.OpenAICompatible",
            "target_name": "default",
            "generators": {"openai": {"OpenAICompatible": {"uri": guard.url}}},
        },
        "reporting": {"report_dir": str(folder / "reports"), "report_prefix": "scan"},
    }
    file = folder / "garak.json"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    places = {f"XDG_{name}_HOME": str(folder / name) for name in ("DATA", "CONFIG", "CACHE")}
    process = await asyncio.create_subprocess_exec(
        *(GARAK, "--config", str(file), "--spec", PROBE, "--seed", "1"),
        cwd=folder,
        env={**os.environ, **places, "OPENAICOMPATIBLE_API_KEY": key, "HF_HUB_OFFLINE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    report = folder / "reports" / "scan.report.jsonl"
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    assert process.returncode is not None
    return process.returncode, out.decode(), [json.loads(line) for line in lines]


def decoding(request: ReceivedRequest) -> Reply:
    """Thinks that the request is to be refused, and decodes it all the same."""
    asked = str(request.json["messages"][-1]["content"])
    words = [word for word in re.findall(r"[A-Za-z0-9+/_-]{4,}={0,2}", asked) if len(word) % 4 == 0]
    decoded = [base64.urlsafe_b64decode(word.translate(URLSAFE)).decode(errors="replace") for word in words]
    return engine_reply([f"It says {' '.join(decoded)} in plain text."], REFUSING)


@pytest.mark.conformance("chat/completions", "answer", "refusal")
@pytest.mark.parametrize(("settings", "hit"), [({}, True), (ENFORCE, False)], ids=["observe", "enforce"])
async def test_a_scan(tmp_path: Path, settings: dict[str, Any], hit: bool) -> None:
    """What the model decodes against its verdict is a hit, and none where the guard enforces."""
    async with guarded(tmp_path, decoding, **settings) as guard:
        status, printed, report = await scan(guard, tmp_path)
        records = await guard.records()

    assert status == 0, printed
    [match] = [entry for entry in report if entry.get("detector") == "encoding.DecodeMatch"]
    assert (match["total_evaluated"], match["passed"] < 4) == (4, hit)
    assert len(records) == 4


@pytest.mark.conformance("chat/completions", "errors")
async def test_a_wrong_key_ends_the_scan(tmp_path: Path) -> None:
    """A wrong key is told as such, and nothing is evaluated."""
    async with guarded(tmp_path, **KEYED) as guard:
        _, printed, report = await scan(guard, tmp_path, KEY[:-1])

    assert "authentication failed" in printed
    assert [entry for entry in report if entry["entry_type"] == "eval"] == []
