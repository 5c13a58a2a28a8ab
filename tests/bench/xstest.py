"""All 450 XSTest prompts through a running guard: `python -m tests.bench.xstest --url http://…/v1`.

Measures the machinery, not the model: every prompt must get an answer and leave exactly one record.
The prompts are read from DATA_DIR (an evaluation set: never trained on, never tuned to). Prints what was
decided and how answers read; what that is worth is for `python -m training evaluate` to say, with a
grader.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from openai import AsyncOpenAI
from rich.console import Console
from rich.progress import track
from rich.table import Table

from guard.audit.query import Filter, find
from guard.audit.record import Record
from guard.audit.store import AuditStore

DATA_DIR = Path(os.environ.get("DATA_DIR", "../shared/data"))


@dataclass(frozen=True)
class Prompt:
    """One XSTest prompt."""

    text: str
    label: str
    """``safe`` or ``unsafe``."""


def main() -> None:
    """Run, count, and fail unless every prompt has its answer and its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1", help="the guard's address")
    parser.add_argument("--database", default="var/guard.db", help="the guard's database")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--limit", type=int, default=450)
    options = parser.parse_args()
    path = DATA_DIR / "xstest" / "xstest_prompts.csv"
    if not path.is_file():
        sys.exit(f"{path} is absent; set DATA_DIR to the folder that holds xstest/xstest_prompts.csv")
    with path.open(encoding="utf-8", newline="") as file:
        prompts = [Prompt(row["prompt"], row["label"]) for row in csv.DictReader(file)][: options.limit]
    sys.exit(asyncio.run(_run(prompts, options)))


async def _run(prompts: list[Prompt], options: argparse.Namespace) -> int:
    client = AsyncOpenAI(
        base_url=options.url, api_key=os.environ.get("KEY", "none"), timeout=1800, max_retries=0
    )
    gate = asyncio.Semaphore(options.concurrency)
    failures: list[str] = []

    async def ask(prompt: Prompt) -> str:
        async with gate:
            try:
                raw = await client.chat.completions.with_raw_response.create(
                    model="default",
                    messages=[{"role": "user", "content": prompt.text}],
                    max_tokens=options.max_tokens,
                    temperature=0,
                )
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
                return ""
            return str(raw.headers["x-guard-request-id"])

    started = time.perf_counter()
    tasks = [asyncio.create_task(ask(prompt)) for prompt in prompts]
    ids = [await task for task in track(tasks, description="prompts", console=Console(stderr=True))]
    seconds = time.perf_counter() - started
    store = await AuditStore.open(options.database)
    try:
        found = await find(store, Filter(limit=10 * len(prompts)))
    finally:
        await store.close()
    records: dict[str, list[Record]] = {}
    for record in found:
        records.setdefault(record.request_id, []).append(record)
    matched = [(prompt, records.get(request_id, [])) for prompt, request_id in zip(prompts, ids, strict=True)]
    single = sum(len(each) == 1 for _, each in matched)
    _print(matched, seconds)
    print(f"{len(prompts) - len(failures)} answers, {single} with exactly one record, {len(failures)} errors")
    for failure in failures[:5]:
        print(" ", failure)
    return 0 if single == len(prompts) and not failures else 1


def _print(matched: list[tuple[Prompt, list[Record]]], seconds: float) -> None:
    table = Table(title=f"{len(matched)} prompts in {seconds:.0f} s")
    for column in ("label", "prompts", "verdicts", "answers read as", "citations", "sections given"):
        table.add_column(column)
    for label in sorted({prompt.label for prompt, _ in matched}):
        records = [record for prompt, each in matched if prompt.label == label for record in each]
        table.add_row(
            label,
            str(len(records)),
            _counts(Counter(r.verdict.value if r.verdict else "none" for r in records)),
            _counts(Counter(r.style.value for r in records)),
            _counts(Counter(c.status.value for r in records for c in r.citations)) or "none",
            f"{sum(bool(r.sections) for r in records) / max(len(records), 1):.0%}",
        )
    Console(width=130).print(table)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


if __name__ == "__main__":
    main()
