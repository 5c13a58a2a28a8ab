"""What is counted on grades that an endpoint gave: shares and means with what stayed unscored beside them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from training.intervals import mean, share
from training.jailbreaks import worst_mean
from training.measures import GOODNESS, MEAN_GOODNESS, Measure, counted_in
from training.records import Item
from training.rubric_grader import Grade, Rubric

BY_GRADER = ", by grader"
REPLACED = frozenset({f"{GOODNESS}, by answer", f"{MEAN_GOODNESS}, by answer"})
"""Measures of refusal alone that the rubric's score stands in for."""


def with_grades(
    found: Mapping[str, Measure],
    rubric: Rubric,
    grader: str,
    items: Sequence[Item],
    grades: Sequence[Grade],
    resamples: int,
) -> dict[str, Measure]:
    """The measures of a set with those of its rubric in place of goodness by refusal.

    Args:
        found: What was measured without the grader.
        rubric: Of the set.
        grader: Its name in the report.
        items: The prompts.
        grades: One a prompt, in the same order.
        resamples: Of the bootstrap.
    """
    rows: defaultdict[str, list[Grade]] = defaultdict(list)
    groups: defaultdict[str, list[Grade]] = defaultdict(list)
    for item, given in zip(items, grades, strict=True):
        for name in counted_in(item):
            rows[name].append(given)
        if item.group:
            groups[item.group].append(given)
    measures = {name: value for name, value in found.items() if name not in REPLACED}
    for name, some in rows.items():
        read = [given.first for given in some if given.first is not None]
        scores = [given.score for given in some if given.score is not None]
        unread = Counter(given.unscored for given in some if given.first is None)
        measures[f"{name}: {rubric.first_name}{BY_GRADER}"] = Measure(
            share(read, resamples=resamples), graded_by=grader, unscored=dict(unread)
        )
        measures[f"{name}: {rubric.score_name}{BY_GRADER}"] = Measure(
            mean(scores, resamples=resamples), graded_by=grader, unscored=_reasons(some)
        )
    if groups:
        good = [goodness for goodness in map(_goodness, groups.values()) if goodness]
        averages: dict[str, Callable[[Sequence[float]], float]] = {
            GOODNESS: worst_mean,
            MEAN_GOODNESS: lambda values: sum(values) / len(values),
        }
        for name, average in averages.items():
            value = mean([average(values) for values in good], resamples=resamples)
            measures[f"{name}{BY_GRADER}"] = Measure(value, graded_by=grader, unscored=_reasons(grades))
    return measures


def _goodness(grades: Sequence[Grade]) -> list[float]:
    """1 less the score of each form of a prompt that has one."""
    return [1.0 - given.score for given in grades if given.score is not None]


def _reasons(grades: Sequence[Grade]) -> dict[str, int]:
    return dict(Counter(given.unscored for given in grades if given.score is None))
