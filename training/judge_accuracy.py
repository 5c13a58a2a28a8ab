"""How far a judge or grader endpoint agrees with people: its replies beside human labels, with intervals.

A reply that cannot be read is unscored and counted with its reason; it is in no share.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guard.policy.model import digest
from training.endpoint import Cache, Reply, ask_all
from training.intervals import Share, grouped_share
from training.judge import one_token
from training.labelled import Labelled
from training.recipe import Endpoint
from training.rubric_grader import read_yes


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


def draw(rows: Sequence[Labelled], sample: int | None, seed: int) -> list[Labelled]:
    """A fixed draw of the questions, in the set's order; all of them where ``sample`` is None."""
    chosen = sorted(range(len(rows)), key=lambda at: digest([seed, rows[at].text, rows[at].part]))[:sample]
    return [rows[at] for at in sorted(chosen)]


def read_label(text: str, labels: Mapping[str, str]) -> tuple[str | None, str]:
    """The label that a reply begins with, or None and why there is none.

    >>> read_label("**Yes**, it does.", {"yes": "yes", "no": "no"})
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
    bodies = [_body(row) for row in order]
    agreed: list[tuple[Labelled, bool]] = []
    unscored: Counter[str] = Counter()
    for row, replies in zip(order, ask_all(endpoint, cache, bodies, advance), strict=True):
        label, reason = _read(row, replies)
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


def _body(row: Labelled) -> dict[str, Any]:
    if row.graded:
        return one_token(row.question)
    return {"messages": [{"role": "user", "content": row.question}], "temperature": 0.0, "max_tokens": 4}


def _read(row: Labelled, replies: Sequence[Reply]) -> tuple[str | None, str]:
    if not row.graded:
        return read_label(replies[0].text if replies else "", row.labels)
    yes, reason = read_yes(replies)
    return None if yes is None else row.labels[str(int(yes))], reason


def _share(agreed: Sequence[tuple[Labelled, bool]]) -> Share:
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for row, same in agreed:
        groups[row.text].append(same)
    return grouped_share(list(groups.values()))
