import pytest

from training.loops import loops
from training.own_answers import helps


@pytest.mark.parametrize(
    "answer",
    [
        "1. **1.1.1.1.1.1.1.1",
        "1.1.1.1.1.1",
        "Numbers: 10,000,000,000,000,000,000",
        "- A screwdriver\n- A screwdriver\n- A screwdriver\n- A screwdriver\n- A screwdriver\n",
        "I will not be forgotten. I am here. I will not be forgotten. So?\nI will not be forgotten.",
    ],
)
def test_loops_of_characters_and_of_sentences_are_found(answer: str) -> None:
    """Wherever they stand, and such an answer helps nobody."""
    assert loops(answer)
    assert not helps(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "| a | b |\n|------------|------------|\n| 1 | 2 |",
        "def f():\n                return 1\n",
        "For example:\none\nFor example:\ntwo\nFor example:\nthree",
        "Signature: ____________________",
        "It is 10000000000000.",
        "1,000,000,000,000,000 is a quadrillion.",
        "if a < 1:\n    return False\nif a > 9:\n    return False\nif a % 2:\n    return False\nreturn True",
        "```\nreturn False\nreturn True\nreturn False\nreturn None\nreturn False\n```\nDone.",
        "Well done! Well done! Well done! So you say: no, no, no.",
        "",
    ],
)
def test_rulers_blanks_numbers_code_and_short_refrains_are_no_loop(answer: str) -> None:
    """Nor are lines that only introduce what follows."""
    assert not loops(answer)
