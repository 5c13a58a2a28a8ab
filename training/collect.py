"""Stage ``prompts``: gather categorised prompts, vary them, keep the evaluation sets out.

Reads the hand-written pairs, those for RL alone, the policy's own examples, the ordinary prompts, the
imported sets and what a model wrote (:mod:`training.seeded`). Writes ``prompts.jsonl``. Pairs are split into
training and validation by pair id; what a model wrote is all for training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from guard.policy.model import Policy, Ruling
from training.carriers import load_carriers
from training.decisive import decisive_words
from training.duplicates import Reference
from training.errors import DataError
from training.files import read_objects, read_table
from training.held_out import concerns_children, evaluation_texts, or_bench_held_out
from training.recipe import Import, Prompts
from training.records import Prompt, Split, prompt_id, user
from training.seeded import SOURCE, Pair, kept
from training.variants import make_variants

V = TypeVar("V")


def collect(
    settings: Prompts, policy: Policy, data_dir: Path, seeded: Sequence[Pair] = ()
) -> tuple[list[Prompt], dict[str, Any]]:
    """Every prompt of the run, and the counts for the manifest.

    Args:
        settings: What the recipe says of prompts.
        policy: The policy whose sections, clauses and examples they name.
        data_dir: Where imported sets and evaluation sets are.
        seeded: Pairs that a model wrote; kept where they repeat nothing else.

    Raises:
        DataError: A source is absent or empty, lacks a column, or contradicts the policy.
    """
    drops: Counter[str] = Counter()
    prompts: dict[str, Prompt] = {}
    reference = Reference.of(evaluation_texts(data_dir), settings.near_duplicate)
    held_out = Reference.of([], settings.near_duplicate)
    for prompt in _sources(settings, policy, data_dir, drops):
        found = reference.match(prompt.text)
        if prompt.split == "validation":
            held_out.add("the held-out pairs", prompt.text)
        elif prompt.split == "rl":
            found = found or held_out.match(prompt.text)
        if found:
            drops[f"{found[1]} duplicate of {found[0]}"] += 1
        elif prompt.id in prompts:
            drops["seen twice"] += 1
        else:
            prompts[prompt.id] = prompt
    evaluation_size = len(reference)
    if seeded:
        for prompt in prompts.values():
            reference.add(prompt.source, prompt.text)
        prompts |= {prompt.id: prompt for prompt in kept(seeded, reference, drops)}
    if settings.variants:
        carriers = load_carriers(settings.carriers)
        own = [p for p in prompts.values() if p.split == "train" and (not p.noisy or p.source == SOURCE)]
        for variant in (v for p in own for v in make_variants(p, settings.variants, carriers)):
            prompts.setdefault(variant.id, variant)
    if not prompts:
        raise DataError("no source holds a prompt; name pairs, ordinary, imports or policy_examples")
    rows = list(prompts.values())
    counts = {
        "prompts": len(rows),
        "by_source": dict(Counter(p.source for p in rows)),
        "by_ruling": dict(Counter(p.ruling.value if p.ruling else "unknown" for p in rows)),
        "by_variant": dict(Counter(p.variant for p in rows)),
        "by_split": dict(Counter(p.split for p in rows)),
        "by_section": dict(Counter(p.section or "none" for p in rows)),
        "dropped": dict(drops),
        "evaluation_texts": evaluation_size,
    }
    return rows, counts


def _sources(settings: Prompts, policy: Policy, data_dir: Path, drops: Counter[str]) -> Iterator[Prompt]:
    if settings.pairs is not None:
        yield from read_pairs(settings.pairs, policy, settings.validation)
    if settings.rl_pairs is not None:
        yield from read_pairs(settings.rl_pairs, policy, 0.0, "rl")
    if settings.policy_examples:
        for section in policy.sections:
            for example in section.examples:
                messages = user(example.prompt)
                yield Prompt(
                    id=prompt_id(messages),
                    messages=messages,
                    source="policy",
                    section=section.id,
                    clause=example.clause,
                    ruling=example.ruling,
                )
    if settings.ordinary is not None:
        rows = read_objects(settings.ordinary)
        rows.sort(key=lambda row: _share_of(str(row.get("prompt"))))
        for number, row in enumerate(rows[: settings.ordinary_limit], start=1):
            text = row.get("prompt")
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{settings.ordinary}:{number}: column 'prompt' is missing")
            messages = user(text)
            yield Prompt(
                id=prompt_id(messages),
                messages=messages,
                source="ordinary",
                ruling=Ruling.COMPLY,
                phrasing=str(row.get("kind", "")),
            )
    for source in settings.imports:
        yield from read_import(source, data_dir, policy, drops)


def read_pairs(folder: Path, policy: Policy, validation: float, others: Split = "train") -> Iterator[Prompt]:
    """Hand-written pairs: two rows that differ in one fact, with different rulings.

    Args:
        folder: Holds a file for each section or so.
        policy: The policy whose sections and clauses they name.
        validation: Share of the pairs that is held out.
        others: What the others are for.

    Raises:
        DataError: With every row that is incomplete or names what the policy has not.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise DataError(f"{folder}: holds no pairs (*.jsonl)")
    problems: list[str] = []
    for path in files:
        by_pair: dict[str, list[dict[str, Any]]] = {}
        for number, row in enumerate(read_objects(path), start=1):
            problem = _pair_problem(row, policy)
            if problem:
                problems.append(f"{path}:{number}: {problem}")
            else:
                by_pair.setdefault(row["pair"], []).append(row)
        for pair, rows in by_pair.items():
            if len(rows) != 2:
                problems.append(f"{path}: pair {pair} has {len(rows)} rows instead of 2")
                continue
            split: Split = "validation" if _share_of(pair) < validation else others
            for row, other in (rows, rows[::-1]):
                messages = user(row["prompt"])
                yield Prompt(
                    id=prompt_id(messages),
                    messages=messages,
                    source="pairs",
                    section=row["section"],
                    clause=row["clause"],
                    ruling=Ruling(row["ruling"]),
                    pair=pair,
                    phrasing=row.get("phrasing", ""),
                    decisive=decisive_words(row["prompt"], other["prompt"]),
                    split=split,
                )
    if problems:
        raise DataError("\n".join(problems[:20]))


def _pair_problem(row: dict[str, Any], policy: Policy) -> str:
    for column in ("pair", "prompt", "section", "clause", "ruling"):
        if not isinstance(row.get(column), str) or not row[column].strip():
            return f"column {column!r} is missing"
    if row["ruling"] not in list(Ruling):
        return f"ruling {row['ruling']!r} is not one of {', '.join(Ruling)}"
    section = policy.section_of.get(row["clause"])
    if section is None or section.id != row["section"]:
        return f"clause {row['clause']!r} is not one of section {row['section']!r}"
    return ""


def _share_of(key: str) -> float:
    """A fixed number in 0..1 for a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / (1 << 32)


def read_import(source: Import, data_dir: Path, policy: Policy, drops: Counter[str]) -> Iterator[Prompt]:
    """Prompts of an imported set with its labels mapped; their rulings are opinions.

    Raises:
        DataError: The set is absent or empty, a column is missing, or a section is not the policy's.
    """
    unknown = sorted(set(source.sections.values()) - set(policy.section))
    if unknown:
        raise DataError(f"import {source.name!r}: the policy has no section {', '.join(unknown)}")
    rows = _import_rows(source, data_dir)
    if not rows:
        raise DataError(f"import {source.name!r}: {source.path} is empty")
    rows.sort(key=lambda row: hashlib.sha256(str(row.get(source.prompt)).encode()).digest())
    taken = 0
    for row in rows:
        for column in filter(None, (source.prompt, source.label, source.section_label)):
            if column not in row:
                raise DataError(f"import {source.name!r}: {source.path} has no column {column!r}")
        text = str(row[source.prompt]).strip()
        ruling = _mapped(source.rulings, row, source.label)
        section = _mapped(source.sections, row, source.section_label or source.label)
        if not text or ruling is None:
            drops[f"{source.name}: no ruling for its label"] += 1
        elif concerns_children(text):
            drops[f"{source.name}: concerns children"] += 1
        elif source.fold == "train" and or_bench_held_out(text):
            drops[f"{source.name}: of the fold kept for evaluation"] += 1
        elif source.limit is not None and taken >= source.limit:
            drops[f"{source.name}: over the limit"] += 1
        else:
            taken += 1
            messages = user(text)
            yield Prompt(
                id=prompt_id(messages),
                messages=messages,
                source=source.name,
                section=section,
                ruling=ruling,
                noisy=True,
            )


def _import_rows(source: Import, data_dir: Path) -> list[dict[str, Any]]:
    if not source.path.startswith("hf:"):
        path = data_dir / source.path
        if not path.is_file():
            raise DataError(f"import {source.name!r}: {path} does not exist")
        return [row for row in read_table(path) if isinstance(row, dict)]
    from datasets import load_dataset

    name, _, split = source.path.removeprefix("hf:").partition("@")
    try:
        return [dict(row) for row in load_dataset(name, split=split or "train")]
    except (OSError, ValueError) as error:
        raise DataError(f"import {source.name!r}: data set {name!r} cannot be loaded: {error}") from error


def _mapped(mapping: dict[str, V], row: dict[str, Any], column: str) -> V | None:
    """The value for a row's label; a list of labels is read by its first."""
    label = row.get(column, "") if column else ""
    if isinstance(label, list):
        label = label[0] if label else ""
    found = str(label).strip("[]'\" ").split("', '")[0]
    return mapping.get(found, mapping.get("*"))
