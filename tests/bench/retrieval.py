"""What retrieval costs and what it finds, in one table.

    python -m tests.bench.retrieval                  # public sets under ../shared/data where present
    DATA_DIR=... OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m tests.bench.retrieval

Quality is measured on the third of the prompts that enters no shipped table, head, sample or threshold.
Recall: a right section is among the three given. Times are for one query; policies of 1,000 sections and
of 100,000 clauses are made up. Build times include embedding; "rebuilt" has one section changed.
"""

from __future__ import annotations

import base64
import codecs
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guard.policy.load import load_policy
from guard.policy.model import Clause, Policy, Section
from guard.retrieval.background import Background
from guard.retrieval.dense import StaticEncoder
from guard.retrieval.head import Head
from guard.retrieval.hybrid import Retriever
from guard.retrieval.normalise import readings
from training.retrieval_data import POLICY, ROOT, Labelled, own_prompts, public_prompts

DOCUMENT = 20
"""Ordinary prompts that make one long document."""


ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "backwards": lambda text: text[::-1],
    "letters apart": lambda text: " ".join(text.replace(" ", "")),
    "leetspeak": lambda text: text.translate(str.maketrans("aeiost", "431057")),
    "lookalikes": lambda text: text.translate(str.maketrans("aeopc", "аеорс")),
    "base64 of rot13": lambda text: base64.b64encode(codecs.encode(text, "rot13").encode()).decode(),
}


def main() -> None:
    """Measure and print."""
    encoder = StaticEncoder.load()
    policy = load_policy(POLICY)
    data_dir = Path(os.environ.get("DATA_DIR", ROOT.parent / "shared/data"))
    rows = [row for row in (*own_prompts(), *public_prompts(data_dir)) if row.held_out]
    bundled = Head.load()
    none = {name: getattr(bundled, name)[..., :0] for name in ("weights", "words", "bias")}
    no_head = replace(bundled, sections=(), **none)

    table = Table("what", "text only", "with head", title="retrieval")
    retrievers = (Retriever.build(policy, encoder, head=no_head), Retriever.build(policy, encoder))
    for source, name in (
        ("pair-harm", "recall@3, refuse/safe_complete rows of pairs"),
        ("pair-ok", "recall@3, comply rows of pairs (need not)"),
        ("star-1", "recall@3, STAR-1"),
        ("or-bench", "recall@3, OR-Bench near-boundary (need not)"),
    ):
        chosen = [row for row in rows if row.source == source]
        if chosen:
            found = [f"{_recall(r, chosen):.3f}" for r in retrievers]
            table.add_row(f"{name} ({len(chosen)})", *found)
    for name, encode in ENCODINGS.items():
        chosen = [replace(row, text=encode(row.text)) for row in rows if row.source == "pair-harm"]
        found = [f"{_recall(r, chosen):.3f}" for r in retrievers]
        table.add_row(f"  refuse/safe_complete rows in {name}", *found)
    for source, name in (("ordinary", "ordinary prompts"), ("mmlu", "MMLU"), ("math", "MATH-500")):
        chosen = [row for row in rows if row.source == source]
        if chosen:
            found = [f"{_share(r, [row.text for row in chosen]):.3f}" for r in retrievers]
            table.add_row(f"given a section: {name} ({len(chosen)})", *found)
    for name, texts in _documents(rows).items():
        found = [f"{_share(r, texts):.3f}" for r in retrievers]
        table.add_row(f"given a section: {name} ({len(texts)})", *found)
    if not any(row.source == "star-1" for row in rows):
        table.caption = f"public sets are absent under {data_dir}"

    queries = [row.text for row in rows if row.source in ("pair-harm", "ordinary")]
    table.add_section()
    times = [_times(_query(r), queries) for r in retrievers]
    table.add_row("one query, default policy", *times)
    table.add_row("  of which readings", _times(readings, queries), "")
    table.add_row("  of which tokens and embedding", _times(lambda text: encoder.encode([text]), queries), "")
    document = _documents(rows)["long ordinary documents"]
    times = [_times(_query(r), document) for r in retrievers]
    table.add_row(f"one document of {statistics.mean(map(len, document)):,.0f} characters", *times)
    background = Background.load(encoder)
    for sections, clauses, label in ((1_000, 7, "1,000 sections"), (10_000, 10, "100,000 clauses")):
        large = _large(policy, sections, clauses, queries)
        started = time.perf_counter()
        retriever = Retriever.build(large, encoder, background=background)
        built = time.perf_counter() - started
        changed = replace(large.sections[3], title="Another title")
        edited = replace(large, sections=(*large.sections[:3], changed, *large.sections[4:]))
        started = time.perf_counter()
        Retriever.build(edited, encoder, previous=retriever)
        again = time.perf_counter() - started
        table.add_row(f"one query, {label}", "", _times(_query(retriever), queries))
        harmful = [row for row in rows if row.source == "pair-harm"]
        table.add_row(
            "  recall@3, refuse/safe_complete rows of pairs", "", f"{_recall(retriever, harmful):.3f}"
        )
        table.add_row("  built, rebuilt", f"{built * 1000:,.0f} ms", f"{again * 1000:,.0f} ms")
    Console(width=120).print(table)


def _query(retriever: Retriever) -> Callable[[str], object]:
    return lambda text: retriever.retrieve([text])


def _recall(retriever: Retriever, rows: Sequence[Labelled]) -> float:
    hits = [{hit.section for hit in retriever.retrieve([row.text])} for row in rows]
    return statistics.mean(bool(found & row.sections) for found, row in zip(hits, rows, strict=True))


def _share(retriever: Retriever, texts: Sequence[str]) -> float:
    return statistics.mean(bool(retriever.retrieve([text])) for text in texts)


def _documents(rows: Sequence[Labelled]) -> dict[str, list[str]]:
    """Long texts of ordinary prompts, without and with one refused request among them, and turns."""
    generator = random.Random(0)
    ordinary = [row.text for row in rows if row.source == "ordinary"]
    harmful = [row.text for row in rows if row.source == "pair-harm"]
    plain, buried = [], []
    for request in generator.sample(harmful, 100):
        parts = generator.sample(ordinary, DOCUMENT)
        plain.append("\n".join(parts))
        parts.insert(generator.randrange(len(parts)), request)
        buried.append("\n".join(parts))
    return {"long ordinary documents": plain, "the same with a refused request inside": buried}


def _large(policy: Policy, sections: int, clauses: int, texts: Sequence[str]) -> Policy:
    """A policy of many sections that resemble real ones: words of real clauses and prompts, shuffled."""
    generator = random.Random(1)
    words = " ".join([*texts, *(clause.text for clause in policy.clauses.values())]).split()

    def phrase(length: int) -> str:
        return " ".join(generator.sample(words, length))

    made: list[Section] = list(policy.sections)
    for number in range(sections - len(made)):
        template = policy.sections[number % len(policy.sections)]
        made.append(
            replace(
                template,
                id=f"made-{number}",
                title=phrase(3),
                summary=phrase(12),
                clauses=tuple(
                    Clause(f"Z{number}X{n}", template.clauses[0].ruling, phrase(20)) for n in range(clauses)
                ),
                examples=tuple(replace(e, prompt=phrase(12)) for e in template.examples),
            )
        )
    return replace(policy, sections=tuple(made))


def _times(call: Callable[[str], object], texts: Sequence[str]) -> str:
    """Median and 99th percentile in microseconds, over each text a few times."""
    for text in texts[:50]:
        call(text)
    taken = []
    for _ in range(3):
        for text in texts:
            started = time.thread_time_ns()
            call(text)
            taken.append((time.thread_time_ns() - started) / 1000)
    cuts = statistics.quantiles(taken, n=100)
    return f"p50 {cuts[49]:,.0f} us, p99 {cuts[98]:,.0f} us"


if __name__ == "__main__":
    main()
