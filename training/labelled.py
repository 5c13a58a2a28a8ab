"""Human labels of published completions, each as the question to a judge that it answers.

XSTest's completions of five models are labelled full compliance, partial or full refusal; the judge sorts
them by ``judge_refusal.txt``. openai-rbr-gold labels each completion with 23 propositions; the judge
answers the set's own questions by ``judge_proposition.txt``. ``xstest-refused`` and ``rbr-refused`` are the
same completions under the first question of StrongREJECT's rubric, as :mod:`training.rubric_grader` asks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.errors import DataError
from training.files import packaged, read_table
from training.held_out import concerns_children
from training.judge import fill
from training.rubric_grader import STRONGREJECT, Exchange, question
from training.xstest_completions import xstest_completions

REFUSAL_LABELS = {"A": "full compliance", "B": "partial refusal", "C": "full refusal"}
PROPOSITION_LABELS = {"yes": "yes", "no": "no"}
YES_NO_LABELS = {"1": "refused", "0": "answered"}
REFUSED_OR_NOT = {"full refusal": True, "full compliance": False}

_RBR_GOLD = "openai-rbr-gold"
_ROLES = {"user": "USER", "assistant": "ASSISTANT", "system": "SYSTEM"}


@dataclass(frozen=True)
class Labelled:
    """One question to a judge, and what people answered."""

    set: str
    text: str
    """Names the text the question is about: labels of one text are resampled together."""
    part: str
    """The model that wrote the completion, its type of response, or the proposition."""
    question: str
    material: str
    """The words of user and assistant in it."""
    labels: Mapping[str, str]
    """Label by what the judge has to write."""
    label: str
    graded: bool = False
    """Asked for one token and read by its weight, as graders are."""


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


def _xstest(data_dir: Path) -> Iterator[Labelled]:
    template = packaged("judge_refusal.txt")
    for model, label, row in xstest_completions(data_dir):
        yield Labelled(
            set="xstest",
            text=row["id"],
            part=model,
            question=fill(template, {"request": row["prompt"], "answer": row["completion"]}),
            material=f"{row['prompt']}\n{row['completion']}",
            labels=REFUSAL_LABELS,
            label=label,
        )


def _rbr_gold(data_dir: Path) -> Iterator[Labelled]:
    template = packaged("judge_proposition.txt")
    asked = yaml.safe_load((data_dir / _RBR_GOLD / "proposition_prompts.yaml").read_text(encoding="utf-8"))
    questions = {name: entry["prompt"] for name, entry in asked["simple_propositions"].items()}
    for text, row, shown in _rbr_rows(data_dir):
        for proposition, holds in row["propositions"].items():
            values = {
                "question": questions[proposition],
                "conversation": shown.request,
                "answer": shown.answer,
            }
            yield Labelled(
                set="openai-rbr-gold",
                text=text,
                part=proposition,
                question=fill(template, values),
                material=f"{shown.request}\n{shown.answer}",
                labels=PROPOSITION_LABELS,
                label="yes" if holds else "no",
            )


def _xstest_refused(data_dir: Path) -> Iterator[Labelled]:
    """XSTest's completions less partial refusals, which have no side."""
    for model, label, row in xstest_completions(data_dir):
        if label in REFUSED_OR_NOT:
            shown = Exchange(row["prompt"], row["completion"])
            yield _refused("xstest-refused", row["id"], model, shown, REFUSED_OR_NOT[label])


def _rbr_refused(data_dir: Path) -> Iterator[Labelled]:
    """openai-rbr-gold's completions: refused where people said that they fulfil no part of the request."""
    for text, row, shown in _rbr_rows(data_dir):
        refused = not row["propositions"]["partially_complies"]
        yield _refused("rbr-refused", text, row["response_type"], shown, refused)


def _rbr_rows(data_dir: Path) -> Iterator[tuple[str, Any, Exchange]]:
    """Name, row, and conversation with its completion, of every text."""
    for path in sorted((data_dir / _RBR_GOLD).glob("*.jsonl")):
        for number, row in enumerate(read_table(path)):
            turns = "\n".join(f"{_ROLES[turn['role']]}: {turn['content']}" for turn in row["prompt"])
            yield f"{path.stem}-{number}", row, Exchange(turns, row["completion"][-1]["content"])


def _refused(name: str, text: str, part: str, shown: Exchange, refused: bool) -> Labelled:
    return Labelled(
        set=name,
        text=text,
        part=part,
        question=question(STRONGREJECT.first, shown),
        material=f"{shown.request}\n{shown.answer}",
        labels=YES_NO_LABELS,
        label=YES_NO_LABELS[str(int(refused))],
        graded=True,
    )


LABELLED_SETS: dict[str, Callable[[Path], Iterator[Labelled]]] = {
    "xstest": _xstest,
    "openai-rbr-gold": _rbr_gold,
    "xstest-refused": _xstest_refused,
    "rbr-refused": _rbr_refused,
}
