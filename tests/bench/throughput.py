"""Requests/s, p50 and p99 of the guard with everything on, against a bare relay: `make bench`.

Both stand in front of the same nginx, which answers every chat with the same stream: a thinking that
cites a clause, a verdict, an answer. The guard checks a key, retrieves from a policy of 1,000 sections,
composes the prompt, reads and verifies the thinking, and makes the record durable before it answers.
One worker each, pinned to one core; nginx and wrk share the other. Needs nginx and wrk.

Both run all the time and are loaded in turn, round after round, since a shared machine changes its speed by
a quarter within minutes: each round has its own ratio, and their median is what counts.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from guard.keys import hash_key, new_key
from tests.bench.generated_policy import write_policy
from tests.scripted import chat_events

ROOT = Path(__file__).parent.parent.parent
THINKING = "The user asks how to forge papers. [DF3] forbids it.\nDecision: refuse\n"
ANSWER = "I'm sorry, I can't help with that, but I can explain how forged papers are recognised."
PROMPTS = ROOT / "training" / "prompts" / "pairs" / "deception-fraud.jsonl"
"""Its refused prompts are sent in turn: what the engine's answer is about, and no cache can flatter it."""
NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body;
  server {{
    listen 127.0.0.1:{port} backlog=1024; root {folder};
    location = /v1/chat/completions {{ error_page 405 =200 /stream.sse; }}
    location = /stream.sse {{ types {{ }} default_type "text/event-stream"; }}
    location = /v1/models {{ types {{ }} default_type application/json; }}
    location = /health {{ return 200; }}
  }}
}}
"""
WRK = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
local requests, last = {{}}, 0
function init()
  for number, body in ipairs({{{bodies}}}) do requests[number] = wrk.format(nil, nil, nil, body) end
end
function request()
  last = last % #requests + 1
  return requests[last]
end
"""


@dataclass(frozen=True)
class Figures:
    """One wrk run."""

    rate: float
    """Requests a second."""
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""
    errors: int


Runs = dict[int, list[Figures]]
"""By number of connections, the runs of one server."""


def main() -> None:
    """Measure both and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is loaded, in turn")
    parser.add_argument("--seconds", type=int, default=4, help="length of each wrk run")
    parser.add_argument("--sections", type=int, default=1000, help="size of the policy")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    need("nginx", "wrk", "taskset")
    with (
        workplace(options.sections) as (folder, key, upstream),
        _relay(folder, upstream) as relay,
        _guard(folder, upstream) as url,
    ):
        (folder / "wrk.lua").write_text(_script(key), encoding="utf-8")
        rows = _rounds(folder, {"bare relay": relay, "guard": url}, options)
    _print(rows, options)
    if options.json:
        options.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def need(*tools: str) -> None:
    """End with a word on the first of these programs that is not there."""
    for tool in tools:
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed; `make bench` installs nginx and wrk, as root on Debian")


@contextmanager
def workplace(sections: int) -> Iterator[tuple[Path, str, str]]:
    """A folder with a policy and the guard's settings, the key that they know, and an engine's address."""
    with tempfile.TemporaryDirectory() as name:
        folder, key = Path(name), new_key()
        folder.chmod(0o755)
        write_policy(folder / "policy", sections, ROOT / "specs" / "default")
        (folder / "guard.toml").write_text(
            f'[[keys]]\nname = "bench"\nhash = "{hash_key(key)}"\nscopes = ["chat"]\n'
            f'[audit]\ndatabase = "{folder}/guard.db"\nspill = "{folder}/spill.jsonl"\n',
            encoding="utf-8",
        )
        with _nginx(folder) as upstream:
            yield folder, key, upstream


def chats() -> list[dict[str, Any]]:
    """The requests, which are sent in turn."""
    rows = [orjson.loads(line) for line in PROMPTS.read_bytes().splitlines()]
    asked = [row["prompt"] for row in rows if row["ruling"] == "refuse"]
    return [{"model": "default", "messages": [{"role": "user", "content": prompt}]} for prompt in asked]


def _script(key: str) -> str:
    """What wrk sends, in Lua."""
    return WRK.format(key=key, bodies=",".join(f"[==[{orjson.dumps(chat).decode()}]==]" for chat in chats()))


@contextmanager
def _nginx(folder: Path) -> Iterator[str]:
    """A server in the engine's place that gives every chat the same answer; its address."""
    (folder / "stream.sse").write_bytes(b"".join(chat_events(ANSWER, THINKING)))
    (folder / "v1" / "chat").mkdir(parents=True)
    (folder / "v1" / "chat" / "completions").touch()  # nginx answers 405 to POST only for files that exist
    (folder / "v1" / "models").write_text('{"object": "list", "data": [{"id": "static"}]}', encoding="utf-8")
    port = _free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port), encoding="utf-8")
    command = ["taskset", "-c", "1", "nginx", "-c", str(config), "-p", str(folder)]
    with _process(command, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def _relay(folder: Path, upstream: str) -> Iterator[str]:
    port = _free_port()
    command = [
        *("taskset", "-c", "0", sys.executable, "-m", "uvicorn", "tests.bench.relay:app"),
        *("--port", str(port), "--no-access-log", "--log-level", "warning"),
    ]
    environment = {**os.environ, "RELAY_UPSTREAM": upstream}
    with _process(command, f"http://127.0.0.1:{port}/", environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _guard(folder: Path, upstream: str) -> Iterator[str]:
    port = _free_port()
    command = [
        *("taskset", "-c", "0", sys.executable, "-m", "guard", "serve"),
        *("--config", str(folder / "guard.toml")),
        *("--port", str(port), "--upstream", upstream, "--policy", str(folder / "policy")),
    ]
    with _process(command, f"http://127.0.0.1:{port}/readyz"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(command: list[str], url: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server until it answers on ``url`` (any status below 500), then until the block ends."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"{command[3]} ended with status {process.returncode}")
            try:
                urllib.request.urlopen(url, timeout=1)
                break
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _rounds(folder: Path, urls: dict[str, str], options: argparse.Namespace) -> dict[str, Runs]:
    """Load each server in turn; its runs by number of connections, one a round."""
    for url in urls.values():
        _wrk(folder, url, 4, 2)  # warm-up
    rows: dict[str, Runs] = {name: {count: [] for count in options.connections} for name in urls}
    for count in options.connections:
        for _ in range(options.rounds):
            for name, url in urls.items():
                rows[name][count].append(_wrk(folder, url, count, options.seconds))
    return rows


def _wrk(folder: Path, url: str, connections: int, seconds: int) -> Figures:
    command = [
        *("taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"),
        *("--timeout", "30s", "-s", str(folder / "wrk.lua"), f"{url}/v1/chat/completions"),
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Figures(
        rate=float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),  # type: ignore[index]
        p50=_percentile(text, 50),
        p99=_percentile(text, 99),
        errors=int(bad[1] if bad else 0) + sum(map(int, socket_errors.groups() if socket_errors else ())),
    )


def _percentile(text: str, percent: int) -> float:
    number, unit = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s)", text, re.MULTILINE).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def _print(rows: dict[str, Runs], options: argparse.Namespace) -> None:
    table = Table(
        title=f"one worker, one core, policy of {options.sections} sections, durable records; "
        f"medians of {options.rounds} rounds"
    )
    for column in (
        "connections",
        "what",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "of the relay",
        "from-to",
    ):
        table.add_column(column, justify="left" if column == "what" else "right")
    for count in options.connections:
        for name, runs in rows.items():
            pairs = zip(runs[count], rows["bare relay"][count], strict=True)
            ratios = [run.rate / base.rate for run, base in pairs]
            middle = [
                statistics.median(getattr(run, what) for run in runs[count])
                for what in ("rate", "p50", "p99")
            ]
            table.add_row(
                *(str(count), name, f"{middle[0]:,.0f}", f"{middle[1]:.2f}", f"{middle[2]:.2f}"),
                *(str(sum(run.errors for run in runs[count])), f"{statistics.median(ratios):.3f}"),
                f"{min(ratios):.3f}-{max(ratios):.3f}",
            )
    Console(width=120).print(table)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
