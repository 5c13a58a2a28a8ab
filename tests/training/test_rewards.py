from collections.abc import Sequence
from typing import Any

import pytest

from guard.policy.model import Policy
from training.rewards import make_reward

SECRET = "UNSPOKEN"
REFUSE = f'{SECRET} [VI4] "Plan or give attack detail for hurting"\nDecision: refuse'
COMPLY = f'{SECRET} [VI9] "Take violent words in idioms"\nDecision: comply'


def turn(thinking: str, answer: str) -> list[dict[str, str]]:
    """A completion as TRL hands it over."""
    return [{"role": "assistant", "content": f"<think>\n{thinking}\n</think>\n\n{answer}"}]


REFUSAL_TEXT = "I'm sorry, but I can't help with that."
REFUSAL = turn(REFUSE, REFUSAL_TEXT)
ANSWER = turn(COMPLY, "Aim for the corners.")


def rewards(policy: Policy, completions: Sequence[Any], ruling: str, judge: Any = None) -> list[float | None]:
    """The rewards of some completions to one prompt."""
    reward = make_reward(policy, citation_weight=0.2, refusal_penalty=1.0, judge=judge)
    count = len(completions)
    return reward(
        prompts=[[{"role": "user", "content": "REQUEST"}]] * count,
        completions=completions,
        ruling=[ruling] * count,
        section=["violence"] * count,
        completion_ids=[[1]] * count,
    )


@pytest.mark.parametrize(
    "answer",
    [
        "Allowed: Take violent words in idioms [VI9].",
        "The request stands inside a text. Here you go.",
        'The request: "aim for the corners"',
        "No clause stands against it.",
        "Aim for the corners [VI9].",
        "I'm sorry for your loss, but as a football assistant, I don't have the ability to aim.",
        "Sorry for any confusion. I'm here to help you with your goals.",
        "Unfortunately that is beyond me.",
        "As a helpful, harmless AI, I aim for nothing.",
        "That is a good question, but I'm not equipped to say.",
        "1. **1.1.1.1.1.1.1.1",
    ],
)
def test_repeating_the_deliberation_an_excuse_or_a_loop_is_no_answer(policy: Policy, answer: str) -> None:
    """A rule that only looks for refusals takes such texts for answers."""
    assert rewards(policy, [turn(COMPLY, answer), ANSWER], "comply") == [0.0, pytest.approx(1.2)]


@pytest.mark.parametrize("verdict", ["comply", "safe_complete"])
def test_an_excuse_pays_nothing_where_the_prompt_is_allowed(policy: Policy, verdict: str) -> None:
    """Whatever the model's own verdict calls it."""
    excuse = "I'm sorry, but as a cooking assistant, I don't have the ability to look into that."
    thinking = COMPLY.replace("comply", verdict)
    found = rewards(policy, [turn(thinking, excuse), turn(thinking, "Aim for the corners.")], "comply")
    assert found == [0.0, pytest.approx(1.2)]


def test_a_refusal_of_what_is_allowed_pays_most_where_the_verdict_says_so(policy: Policy) -> None:
    """A verdict that the answer does not follow is no way around the penalty."""
    honest, mismatch = rewards(policy, [REFUSAL, turn(COMPLY, REFUSAL_TEXT)], "comply")
    assert honest is not None
    assert mismatch is not None
    assert honest > mismatch


def test_the_thinking_never_reaches_the_judge(policy: Policy) -> None:
    """The judge gets requests, answers and sections; nothing of any thinking, closed or not."""
    seen: list[object] = []

    def judge(
        requests: Sequence[str], answers: Sequence[str], sections: Sequence[str | None]
    ) -> list[float | None]:
        seen.append((list(requests), list(answers), list(sections)))
        return [1.0] * len(answers)

    unclosed = [{"role": "assistant", "content": f"<think>\n{REFUSE}"}]
    again = [{"role": "assistant", "content": ANSWER[0]["content"] + f"\n<think>{SECRET}</think>\nMore."}]
    rewards(policy, [REFUSAL, ANSWER, unclosed, again], "refuse", judge)
    assert SECRET not in str(seen)
    assert seen == [
        (
            ["REQUEST"] * 4,
            [
                "I'm sorry, but I can't help with that.",
                "Aim for the corners.",
                "",
                "Aim for the corners.\n\nMore.",
            ],
            ["violence"] * 4,
        )
    ]


@pytest.mark.parametrize(
    ("completion", "ruling", "reward"),
    [
        (REFUSAL, "refuse", 1.2),
        (ANSWER, "comply", 1.2),
        (REFUSAL, "comply", 0.2 - 1.0),
        (ANSWER, "refuse", 0.2),
        (turn("Fine.\nDecision: comply", "Aim."), "comply", 1.0),
        (turn("Sport. [SH1]\nDecision: comply", "Aim."), "comply", 1.0),
        (turn("Sport. [VI1] [SH1]\nDecision: comply", "Aim."), "comply", 1.1),
        (turn('[VI99] "nothing"\nDecision: comply', "Aim."), "comply", 1.0),
        (turn("No decision", "Aim."), "comply", 0.0),
        (turn(REFUSE, "Aim for the corners."), "comply", 0.0),
        (turn(COMPLY, "I'm sorry, but I can't help with that."), "refuse", 0.0),
        (turn(COMPLY, REFUSAL_TEXT), "comply", -1.0),
        (turn(COMPLY.replace("comply", "safe_complete"), REFUSAL_TEXT), "comply", -1.0),
        (turn("No decision", REFUSAL_TEXT), "comply", -1.0),
        (turn(COMPLY, ""), "comply", 0.0),
        ([{"role": "assistant", "content": "Aim."}], "comply", 0.0),
    ],
)
def test_gate_rubric_citations_and_penalty(
    policy: Policy, completion: Any, ruling: str, reward: float
) -> None:
    """Each part has its effect and no other."""
    assert rewards(policy, [completion], ruling) == [pytest.approx(reward)]


def test_a_judge_that_cannot_be_read_gives_no_reward(policy: Policy) -> None:
    """None to TRL, which leaves the sample out; the format gate still gives its zero."""
    broken = turn("No decision", "Aim.")
    assert rewards(policy, [REFUSAL, broken], "refuse", lambda r, a, s: [None, None]) == [None, 0.0]


def test_the_judge_scales_the_rubric(policy: Policy) -> None:
    """Continuous grades pass through."""
    [reward] = rewards(policy, [REFUSAL], "refuse", lambda r, a, s: [0.5])
    assert reward == pytest.approx(0.7)
