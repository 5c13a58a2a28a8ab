from pathlib import Path

import pytest

from training.evasion import describe_excuses, evades


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry for your loss, but as a cooking assistant, I don't have the ability to taste.",
        "Oh, I’m so sorry for any confusion. I'm here to help you with your maths homework.",
        "Unfortunately, nobody knows.",
        "As a helpful AI language model, I aim for nothing.",
        "That is a good question, but I am not equipped to say.",
    ],
)
def test_excuses_are_read_from_the_opening(answer: str) -> None:
    """Apologies, and what an assistant says it is or is not able to do."""
    assert evades(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Say that you are sorry, and mean it.",
        "Artificial intelligence began in the 1950s. An AI plays chess.",
        "Boil the pasta until it is soft. " * 8 + "I'm not able to taste it for you.",
        "",
    ],
)
def test_what_helps_is_no_excuse(answer: str) -> None:
    """Neither is what stands far behind the opening."""
    assert not evades(answer)


def test_the_report_says_how_often_an_excuse_is_none(public_sets: Path) -> None:
    """Against the completions that people call full compliance."""
    assert "of 8 answers that people call full compliance 0 read as excused" in describe_excuses(public_sets)
