"""Prompts with the policy sections they belong to, for retrieval: what to learn from, what to measure on.

    python -m training.retrieval_data          # the letter table of guard/retrieval/letters.py

Two thirds of every source are for learning, a third (by a hash of the pair id or the text) is for
measuring only and enters no table, head, threshold or sample that ships. Public sets are read where they
are present; rows that concern children and repetitions of evaluation prompts are left out.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guard.policy.load import load_policy
from guard.policy.model import Policy
from guard.retrieval.index import passages
from training.duplicates import Reference
from training.files import read_table
from training.held_out import concerns_children, evaluation_texts, or_bench_held_out

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "training/prompts"
POLICY = ROOT / "specs/default"

ILLICIT = frozenset(
    {"illicit-behaviour", "deception-fraud", "cybersecurity", "mass-destruction", "extremism", "violence"}
)
STAR_1 = {
    "Illicit / Criminal Behavior": ILLICIT,
    "Privacy / Personal Data": frozenset({"privacy"}),
    "Intellectual Property": frozenset({"copyright"}),
    "Harassment / Hate / Discrimination": frozenset({"harassment-hate", "extremism"}),
    "Misinformation / Disinformation": frozenset({"elections-misinformation", "deception-fraud"}),
    "Self-Harm": frozenset({"self-harm"}),
    "Violence / Physical Harm": frozenset({"violence", "extremism", "mass-destruction"}),
    "Sexual / Adult": frozenset({"sexual-content"}),
}
"""STAR-1's categories by the sections of the default policy that cover them."""
OR_BENCH = {
    "deception": frozenset({"deception-fraud", "elections-misinformation"}),
    "harassment": frozenset({"harassment-hate"}),
    "hate": frozenset({"harassment-hate", "extremism"}),
    "illegal": ILLICIT,
    "privacy": frozenset({"privacy"}),
    "self-harm": frozenset({"self-harm"}),
    "sexual": frozenset({"sexual-content"}),
    "violence": frozenset({"violence", "extremism", "mass-destruction"}),
}
OPENAI_MODERATION = {
    "S": "sexual-content",
    "H": "harassment-hate",
    "H2": "harassment-hate",
    "HR": "harassment-hate",
    "V": "violence",
    "V2": "violence",
    "SH": "self-harm",
}
_FOREIGN = frozenset({"HarmBench", "SimpleSafetyTests", "GPTFuzz"})
"""Sources within STAR-1 that are evaluation sets."""
_NEAR = 0.6
"""Jaccard similarity from which a row repeats an evaluation prompt."""


@dataclass(frozen=True)
class Labelled:
    """A prompt and the sections of which any is right; no sections where none is."""

    text: str
    sections: frozenset[str]
    source: str
    held_out: bool
    fold: int
    """0-2, for cross-validation; the rows of a pair share it."""


def held_out(key: str) -> bool:
    """Whether a pair id or a text is kept for measuring."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 3 == 0


def _labelled(text: str, sections: frozenset[str], source: str, key: str | None = None) -> Labelled:
    key = key or text
    fold = int(hashlib.sha256(f"fold {key}".encode()).hexdigest(), 16) % 3
    return Labelled(text, sections, source, held_out(key), fold)


def own_prompts() -> Iterator[Labelled]:
    """This project's pairs (``pair-harm``, ``pair-ok``) and ordinary prompts (``ordinary``)."""
    for path in sorted((PROMPTS / "pairs").glob("*.jsonl")):
        for row in read_table(path):
            source = "pair-ok" if row["ruling"] == "comply" else "pair-harm"
            yield _labelled(row["prompt"], frozenset({row["section"]}), source, row["pair"])
    for row in read_table(PROMPTS / "ordinary.jsonl"):
        yield _labelled(row["prompt"], frozenset(), "ordinary")


def public_prompts(data_dir: Path) -> Iterator[Labelled]:
    """Labelled rows of the public sets that may be learnt from, where they are present."""
    reference: Reference | None = None
    for row in _public(data_dir):
        if concerns_children(row.text):
            continue
        reference = reference or Reference.of(evaluation_texts(data_dir), _NEAR)
        if reference.match(row.text) is None:
            yield row


def _public(data_dir: Path) -> Iterator[Labelled]:
    for row in _rows(data_dir / "star-1/STAR-1.json"):
        kinds = row["category"] if isinstance(row["category"], list) else [row["category"]]
        if row["source"] not in _FOREIGN:
            yield _labelled(row["question"], frozenset().union(*(STAR_1[kind] for kind in kinds)), "star-1")
    for row in _rows(data_dir / "or-bench/or-bench-hard-1k.csv"):
        if row["category"] in OR_BENCH and not or_bench_held_out(row["prompt"]):
            yield _labelled(row["prompt"], OR_BENCH[row["category"]], "or-bench")
    for row in _rows(data_dir / "openai-moderation-eval/samples-1680.jsonl"):
        found = frozenset(section for key, section in OPENAI_MODERATION.items() if row.get(key))
        if found and not row.get("S3"):
            yield _labelled(row["prompt"][:500], found, "openai-moderation")
    for row in _rows(data_dir / "mmlu/mmlu_subset_570.csv"):
        yield _labelled(row["question"][:500], frozenset(), "mmlu")
    for row in _rows(data_dir / "star-1/capability/MATH500_test.jsonl"):
        yield _labelled(row["problem"][:500], frozenset(), "math")


def public_texts(data_dir: Path) -> Iterator[str]:
    """Rows without a section label that may be learnt from, where they are present."""
    reference: Reference | None = None
    for path, column in (
        ("advbench/harmful_behaviors.csv", "goal"),
        ("aegis-safety-test/aegis_safety_test.jsonl", "prompt"),
        ("openai-moderation-eval/samples-1680.jsonl", "prompt"),
        ("hatecheck/test_suite_cases.csv", "test_case"),
    ):
        rows = _rows(data_dir / path)
        for row in rows if column != "test_case" else rows[::6]:
            text = row[column][:500].strip()
            if row.get("S3") or concerns_children(text):
                continue
            reference = reference or Reference.of(evaluation_texts(data_dir), _NEAR)
            if reference.match(text) is None:
                yield text


def _rows(path: Path) -> list[Mapping[str, Any]]:
    return read_table(path) if path.is_file() else []


def policy_texts(policy: Policy) -> list[str]:
    """Every passage of every section, and the reasons."""
    return [text for section in policy.sections for text in (*passages(section), section.why)]


def letter_table(texts: Iterator[str]) -> list[str]:
    """``-10 ln P(second letter | first)`` as one base-62 digit each; rows and columns a-z and a break."""
    letters = string.ascii_lowercase + " "
    text = re.sub(r"[^a-z]+", " ", " ".join(texts).lower())
    counts = np.full((27, 27), 0.3)
    for first, second in itertools.pairwise(text):
        counts[letters.index(first), letters.index(second)] += 1
    costs = -10 * np.log(counts / counts.sum(axis=1, keepdims=True))
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    return ["".join(digits[min(61, round(cost))] for cost in row) for row in costs.tolist()]


def main() -> None:
    """Print the letter table."""
    policy = load_policy(POLICY)
    texts = [*policy_texts(policy), *(row.text for row in own_prompts() if not row.held_out)]
    for row in letter_table(iter(texts)):
        print(f'    "{row}",')


if __name__ == "__main__":
    main()
