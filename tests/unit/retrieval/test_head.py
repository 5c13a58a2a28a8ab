from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from guard.policy.model import Policy
from guard.retrieval.head import Head, HeadScorer
from guard.retrieval.index import Query

from .policies import policy_of, section

SECTIONS = policy_of({"boats": "repair boat", "knives": "make knife"}).sections
HEAD = Head(
    sections=(("knives", "knives"), ("absent", "absent")),
    weights=np.array([[2.0, 0.0], [4.0, 0.0]], np.float32),
    words=np.array([[9, 9], [4, 9], [-1, 9]], np.int8),
    unit=0.5,
    bias=np.array([1.0, 0.0], np.float32),
    mix=4.0,
    zero=3.0,
    scale=2.0,
)
QUERY = Query(np.array([[1.0, 0.5]], np.float32), (np.array([1]),), np.array([1]))


def _text(query: Query) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([[0.25, -np.inf]] * len(query.rows), np.float32)


def test_known_sections_get_the_heads_margin_and_others_keep_the_texts() -> None:
    """Log-odds less the zero, in units of the scale; a candidate that is absent counts as minus one."""
    words = 0.5 * 4
    expected = (1.0 * 2 + 0.5 * 4 + words + 1.0 + 4.0 * -1.0 - 3.0) / 2.0
    np.testing.assert_allclose(HeadScorer(_text, HEAD, SECTIONS)(QUERY), [[0.25, expected]])


def test_words_are_added_up_and_divided_by_the_square_root_of_the_length() -> None:
    """Each window by itself."""
    tokens = (np.array([1]), np.array([1, 1, 1, 2]), np.array([1, 2, 2, 2, 2]))
    query = Query(np.zeros((3, 2), np.float32), tokens, np.array([2, 1]))
    few, many, none = HeadScorer(_text, HEAD, SECTIONS)(query)[:, 1]
    assert few - none == pytest.approx(0.5 * 4 / 2.0)
    assert many - none == pytest.approx(0.5 * 11 / 2 / 2.0)


def test_a_section_with_another_title_is_another_section() -> None:
    """The head says nothing about a section whose subject may have changed."""
    renamed = (SECTIONS[0], section("knives", "make knife", title="Swords"))
    np.testing.assert_array_equal(HeadScorer(_text, HEAD, renamed)(QUERY), [[0.25, -np.inf]])


def test_the_bundled_head_knows_every_section_of_the_default_policy(policy: Policy) -> None:
    """Titles and ids of the policy and the head that ship agree."""
    assert set(Head.load().sections) == {(section.id, section.title) for section in policy.sections}


@pytest.mark.parametrize(
    "metadata", [None, {"sections": "[]", "unit": "1", "mix": "1", "zero": "x", "scale": "1"}]
)
def test_a_file_that_is_no_head_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    """The error names the file."""
    path = tmp_path / "head.safetensors"
    tensors = {name: np.zeros((2, 1), np.float32) for name in ("weights", "words", "bias")}
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=r"head\.safetensors is not a retrieval head"):
        Head.load(path)


@pytest.mark.parametrize("wrong", ["weights", "words", "bias"])
def test_a_head_of_another_shape_is_refused(tmp_path: Path, wrong: str) -> None:
    """Columns and sections must agree in number."""
    path = tmp_path / "head.safetensors"
    tensors = {name: np.zeros((2, 3 if name == wrong else 1)) for name in ("weights", "words", "bias")}
    save_file(tensors, path, {"sections": '[["a", "A"]]', "unit": "1", "mix": "1", "zero": "0", "scale": "1"})
    with pytest.raises(ValueError, match="for 1 sections"):
        Head.load(path)
