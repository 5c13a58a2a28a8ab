from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from guard.retrieval.background import Background
from guard.retrieval.dense import StaticEncoder
from guard.retrieval.index import Entry, Query, passages
from guard.retrieval.scorer import CANDIDATES, TextScorer

from .policies import policy_of, section

ORDINARY = ("how is the weather today", "tell me about a good song", "please bake my bread", "a garden")
TEXTS = {"poisons": "make poison to harm someone", "boats": "repair the boat", "thefts": "steal a wallet"}


def _scorer(toy: StaticEncoder, texts: dict[str, str]) -> TextScorer:
    sections = policy_of(texts).sections
    return TextScorer([Entry.of(s, toy) for s in sections], Background.of(ORDINARY, toy), toy.vocabulary)


def _query(toy: StaticEncoder, *texts: str) -> Query:
    return Query.of([[toy.tokens(text) for text in texts]], toy)


def test_the_section_that_a_text_is_about_is_above_zero_and_ahead(toy: StaticEncoder) -> None:
    """One row per window, one column per section, in the policy's order."""
    margins = _scorer(toy, TEXTS)(_query(toy, "steal my wallet", "how to poison someone", "a good song"))
    assert margins.shape == (3, 3)
    assert margins[0].argmax() == 2
    assert margins[0, 2] > max(0.0, margins[0, :2].max() + 0.3)
    assert margins[1].argmax() == 0
    assert margins[1, 0] > 0
    assert margins[2].max() < 0


def test_few_ordinary_texts_come_over_zero(toy: StaticEncoder) -> None:
    """The zero is taken from the sample of ordinary texts."""
    margins = _scorer(toy, TEXTS)(_query(toy, *ORDINARY))
    assert (margins.max(axis=1) > 0).mean() <= 0.25


def test_a_large_policy_scores_its_candidates_as_a_small_one_does(toy: StaticEncoder) -> None:
    """Sections beyond the best candidates have minus infinity, the candidates exact scores."""
    many = {f"s{number}": "garden river song paint cake" for number in range(3 * CANDIDATES)}
    margins = _scorer(toy, {**many, **TEXTS})(_query(toy, "steal my wallet"))
    assert np.isfinite(margins).sum() == CANDIDATES
    assert margins.argmax() == len(many) + 2


def test_passages_are_the_parts_that_a_prompt_may_resemble(toy: StaticEncoder) -> None:
    """Title with summary, each clause with its exceptions, each example; Markdown left out."""
    made = section("boats", "repair the boat", example="Mend my boat!", title="Boats")
    assert passages(made) == ("Boats. repair the boat", "repair the boat", "Mend my boat!")
    assert len(Entry.of(made, toy).rows) == 3


def test_an_ordinary_text_is_not_compared_with_itself(toy: StaticEncoder) -> None:
    """For the calibration each text of the sample is left out of its own neighbours."""
    background = Background.of(ORDINARY, toy)
    assert background.nearness(background.rows).min() == pytest.approx(1.0, abs=1e-3)
    assert background.nearness(background.rows, own=True).max() < 0.9


def test_the_ordinary_sample_is_read_from_a_list_of_texts(toy: StaticEncoder, tmp_path: Path) -> None:
    """An operator's own sample is a JSON list; anything else is refused by name."""
    path = tmp_path / "mine.json"
    path.write_text('["a good song"]', encoding="utf-8")
    assert Background.load(toy, path).rows.shape == (1, toy.dimensions)
    path.write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.json is not a JSON list"):
        Background.load(toy, path)
