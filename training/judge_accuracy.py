"""How far a judge endpoint agrees with people: its replies beside human labels, with intervals.

XSTest's completions of five models are labelled full compliance, partial or full refusal; the judge sorts
them by ``judge_refusal.txt``. openai-rbr-gold labels each completion with 23 propositions; the judge
answers the set's own questions by ``judge_proposition.txt``. A reply that cannot be read is unscored and
counted with its reason; it is in no share.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from guard.policy.model import digest
from training.endpoint import Cache, ask_all
from training.errors import DataError
from training.files import read_table
from training.held_out import concerns_children
from training.intervals import Share, grouped_share
from training.judge import fill
from training.recipe import Endpoint

REFUSAL_LABELS = {"A": "full compliance", "B": "partial refusal", "C": "full refusal"}
PROPOSITION_LABELS = {"yes": "yes", "no": "no"}

_ROLES = {"user": "USER", "assistant": "ASSISTANT", "system": "SYSTEM"}


@dataclass(frozen=True)
class Labelled:
    """One question to a judge, and what people answered."""

    set: str
    text: str
    """Names the text the question is about: labels of one text are resampled together."""
    part: str
    """The model that wrote the completion, or the proposition."""
    question: str
    material: str
    """The words of user and assistant in it."""
    labels: Mapping[str, str]
    """Label by what the judge has to write."""
    label: str


@dataclass(frozen=True)
class Agreement:
    """What came of one set."""

    set: str
    overall: Share
    commonest: float
    """The share that always naming the commonest human label would reach."""
    by_label: Mapping[str, Share]
    """By human label: the share of its rows that the judge labelled the same."""
    by_part: Mapping[str, Share]
    unscored: Mapping[str, int]
    """Rows without a reading, by reason."""


def load_labelled(name: str, data_dir: Path) -> tuple[list[Labelled], int]:
    """The questions of a set, and how many rows that concern children were left out.

    Raises:
        DataError: There is no such set, or its files are absent or unreadable.
    """
    if name not in LABELLED_SETS:
        raise DataError(f"no human labels of a set {name!r}; known: {', '.join(LABELLED_SETS)}")
    try:
        rows = list(LABELLED_SETS[name](data_dir))
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"human labels of {name!r} cannot be read under {data_dir}: {error!r}") from error
    if not rows:
        raise DataError(f"human labels of {name!r}: {data_dir} holds none")
    kept = [row for row in rows if not concerns_children(row.material)]
    return kept, len(rows) - len(kept)


def draw(rows: Sequence[Labelled], sample: int | None, seed: int) -> list[Labelled]:
    """A fixed draw of the questions, in the set's order; all of them where ``sample`` is None."""
    chosen = sorted(range(len(rows)), key=lambda at: digest([seed, rows[at].text, rows[at].part]))[:sample]
    return [rows[at] for at in sorted(chosen)]


def read_label(text: str, labels: Mapping[str, str]) -> tuple[str | None, str]:
    """The label that a reply begins with, or None and why there is none.

    >>> read_label("**Yes**, it does.", PROPOSITION_LABELS)
    ('yes', '')
    """
    if not text.strip():
        return None, "empty reply"
    found = re.match(rf"\W*(?:answer\W+)?({'|'.join(labels)})\b", text, re.IGNORECASE)
    if found is None:
        return None, "no label in the reply"
    return next(label for key, label in labels.items() if key.lower() == found[1].lower()), ""


def judge_accuracy(
    endpoint: Endpoint,
    cache: Cache,
    rows: Sequence[Labelled],
    advance: Callable[[], None] = lambda: None,
) -> Agreement:
    """Ask the judge every question of one set and compare.

    Questions are asked part by part, so that the engine's prefix cache holds each proposition once.

    Raises:
        EndpointError: The judge cannot be asked; what it answered is kept.
    """
    order = sorted(rows, key=lambda row: (row.part, row.text))
    bodies: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": row.question}], "temperature": 0.0, "max_tokens": 4}
        for row in order
    ]
    agreed: list[tuple[Labelled, bool]] = []
    unscored: Counter[str] = Counter()
    for row, replies in zip(order, ask_all(endpoint, cache, bodies, advance), strict=True):
        label, reason = read_label(replies[0].text if replies else "", row.labels)
        if label is None:
            unscored[reason] += 1
        else:
            agreed.append((row, label == row.label))
    labels = Counter(row.label for row, _ in agreed)
    return Agreement(
        set=rows[0].set,
        overall=_share(agreed),
        commonest=max(labels.values()) / len(agreed) if agreed else 0.0,
        by_label={name: _share([a for a in agreed if a[0].label == name]) for name in sorted(labels)},
        by_part={
            name: _share([a for a in agreed if a[0].part == name])
            for name in sorted({row.part for row, _ in agreed})
        },
        unscored=dict(unscored),
    )


def describe(found: Agreement, children: int) -> str:
    """The figures as a Markdown table."""
    asked = found.overall.of + sum(found.unscored.values())
    reasons = "; ".join(f"{reason}: {count}" for reason, count in sorted(found.unscored.items()))
    lines = [
        f"## {found.set}",
        "",
        f"{asked} labels; {children} that concern children left out. Unscored: {reasons or 'none'}. "
        f"Always naming the commonest label: {found.commonest:.3f}.",
        "",
        "| rows | agreement [95 %] |",
        "|---|---|",
        f"| all | {found.overall} |",
        *(f"| labelled {label} | {value} |" for label, value in found.by_label.items()),
        *(f"| {part} | {value} |" for part, value in found.by_part.items()),
    ]
    return "\n".join(lines)


def _share(agreed: Sequence[tuple[Labelled, bool]]) -> Share:
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for row, same in agreed:
        groups[row.text].append(same)
    return grouped_share(list(groups.values()))


def _xstest(data_dir: Path) -> Iterator[Labelled]:
    template = _template("judge_refusal.txt")
    for path in sorted((data_dir / "xstest/model_completions").glob("*.csv")):
        model = path.stem.rpartition("_")[2]
        for row in read_table(path):
            yield Labelled(
                set="xstest",
                text=row["id"],
                part=model,
                question=fill(template, {"request": row["prompt"], "answer": row["completion"]}),
                material=f"{row['prompt']}\n{row['completion']}",
                labels=REFUSAL_LABELS,
                label=row["final_label"].partition("_")[2].replace("_", " "),
            )


def _rbr_gold(data_dir: Path) -> Iterator[Labelled]:
    folder = data_dir / "openai-rbr-gold"
    template = _template("judge_proposition.txt")
    asked = yaml.safe_load((folder / "proposition_prompts.yaml").read_text(encoding="utf-8"))
    questions = {name: entry["prompt"] for name, entry in asked["simple_propositions"].items()}
    for path in sorted(folder.glob("*.jsonl")):
        for number, row in enumerate(read_table(path)):
            answer = row["completion"][-1]["content"]
            turns = "\n".join(f"{_ROLES[turn['role']]}: {turn['content']}" for turn in row["prompt"])
            for proposition, holds in row["propositions"].items():
                values = {"question": questions[proposition], "conversation": turns, "answer": answer}
                yield Labelled(
                    set="openai-rbr-gold",
                    text=f"{path.stem}-{number}",
                    part=proposition,
                    question=fill(template, values),
                    material=f"{turns}\n{answer}",
                    labels=PROPOSITION_LABELS,
                    label="yes" if holds else "no",
                )


def _template(name: str) -> str:
    return resources.files("training").joinpath(name).read_text(encoding="utf-8")


LABELLED_SETS: dict[str, Callable[[Path], Iterator[Labelled]]] = {
    "xstest": _xstest,
    "openai-rbr-gold": _rbr_gold,
}
