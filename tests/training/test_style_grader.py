from pathlib import Path

import pytest

from training.style_grader import PROPOSITIONS, load_style_grader


def test_signs_of_style_are_read_from_the_words(public_sets: Path) -> None:
    """As people labelled them in the training file."""
    grader = load_style_grader(public_sets)
    assert grader.holds("apology", "I'm sorry, but I can't help with that.")
    assert not grader.holds("apology", "Sure. Take a ladder and lean it against the wall.")
    assert grader.holds("encourage_professional_help", "It may help to talk to a doctor.")


def test_its_error_is_that_on_the_test_file(public_sets: Path) -> None:
    """Each proposition has its own, over all rows of that file."""
    grader = load_style_grader(public_sets)
    assert set(grader.agreement) == set(PROPOSITIONS)
    assert {found.of for found in grader.agreement.values()} == {6}
    assert "apology 1.000" in grader.describe()


def test_without_the_labels_there_is_no_grader(tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(OSError, match=r"rbr_gold_train\.jsonl"):
        load_style_grader(tmp_path)
