"""Instructions that a request takes inside the guard: `python -m tests.bench.instructions`.

On a shared machine the same code takes a quarter longer or less from one minute to the next, so that `make
bench` cannot show what a small change saves. Callgrind counts instructions instead; two runs of the same code
differ by a hundredth. What it leaves out: the HTTP server, the kernel, and how long memory takes.

The guard runs without a socket of its own in front of the nginx of `throughput.py`, everything on, so many
requests at once. Needs nginx, and valgrind with its callgrind_control.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import uvloop

from guard.app import create_app, running
from guard.cli import spare_the_collector
from guard.config import load_settings
from tests.bench.throughput import ROOT, chats, need, workplace

WARM_UP = 128
"""Requests before counting begins."""


def main() -> None:
    """Run the guard under Callgrind and print what it counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sections", type=int, default=1000, help="size of the policy")
    parser.add_argument("--requests", type=int, default=384, help="how many are counted")
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--inside", nargs=3, metavar=("FOLDER", "UPSTREAM", "KEY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            folder, upstream, key = options.inside
            runner.run(_count(Path(folder), upstream, key, options))
        return
    need("nginx", "valgrind", "callgrind_control")
    with workplace(options.sections) as (folder, key, upstream):
        command = [
            *("valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"),
            *(f"--callgrind-out-file={folder}/counts", sys.executable, *sys.argv),
            *("--inside", str(folder), upstream, key),
        ]
        fixed = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, env={**os.environ, **fixed}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        for path in sorted(folder.glob("counts-*")):
            text = path.read_text(encoding="utf-8", errors="replace")
            total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
            what = "event loop" if path.name == "counts-01" else "audit" if "sqlite3_step" in text else ""
            if what and total:
                print(f"{what:12}{int(total[1]) / options.requests / 1000:10,.1f} thousand a request")


async def _count(folder: Path, upstream: str, key: str, options: argparse.Namespace) -> None:
    """Answer requests and have those after the first ones counted."""
    settings = load_settings(
        folder / "guard.toml", policies=(folder / "policy",), engine={"upstream": upstream}
    )
    async with running(settings) as live:
        await live.engine.wait_up()
        app = create_app(live.service)
        spare_the_collector()
        bodies = itertools.cycle(map(orjson.dumps, chats()))

        async def some(count: int) -> None:
            numbers = iter(range(count))

            async def client() -> None:
                for _ in numbers:
                    assert await _answer(app, next(bodies), key) == 200

            await asyncio.gather(*(client() for _ in range(options.at_once)))

        await some(WARM_UP)
        _instrument("on")
        await some(options.requests)
        _instrument("off")


def _instrument(state: str) -> None:
    subprocess.run(["callgrind_control", "-i", state, str(os.getpid())], check=True, capture_output=True)


async def _answer(app: Any, body: bytes, key: str) -> int:
    """One chat as a server would bring it; the status."""
    status = 0
    arrived = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in arrived:
            return message
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [
        (b"host", b"127.0.0.1:8080"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"authorization", f"Bearer {key}".encode()),
    ]
    path = "/v1/chat/completions"
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"},
        **{"method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
        **{"headers": headers, "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 50000), "state": {}},
    }
    await app(scope, receive, send)
    return status


if __name__ == "__main__":
    main()
