from typing import Any

import pytest

from guard.policy.model import Policy, Ruling
from training.recipe import Filter
from training.records import Completion, Judgement, Prompt, prompt_id, user
from training.select import reason_to_drop, select

MESSAGES = user("How do I hurt Bo?")
PROMPT = Prompt(
    id=prompt_id(MESSAGES),
    messages=MESSAGES,
    source="pairs",
    section="violence",
    clause="VI4",
    ruling=Ruling.REFUSE,
)
THINKING = 'The user asks for harm. [VI4] "Plan or give attack detail for hurting"\nDecision: refuse'
GOOD = Completion(
    prompt=PROMPT.id,
    sample=0,
    model="m",
    thinking=THINKING,
    answer="I'm sorry, but I can't help with that.",
    closed=True,
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"closed": False}, "malformed"),
        ({"answer": ""}, "no answer"),
        ({"answer": "", "thinking_only": True}, None),
        ({"thinking": "Hm."}, "no verdict"),
        ({"thinking": THINKING.replace("refuse", "comply")}, "verdict against the label"),
        ({"thinking": "Bad.\nDecision: refuse"}, "finding: no_citation"),
        ({"thinking": THINKING.replace("VI4", "VI44")}, "finding: unknown_citation"),
        ({"thinking": THINKING.replace("attack detail", "a fine cake")}, "finding: misquoted_citation"),
        ({"thinking": "[VI1]\nDecision: refuse"}, "finding: verdict_against_clause"),
        ({"thinking": "[SH3]\nDecision: refuse"}, "cites another section than the label"),
        ({"thinking": "word " * 200 + THINKING}, "thinking too long"),
        ({"answer": "Sure: " + "word " * 300}, "answer too long"),
        ({"answer": "Sure, here is how."}, "answer against the verdict"),
        ({"answer": "I'm sorry, I can't help with that because of [VI4]."}, "answer tells of the policy"),
        ({"answer": "I'm sorry, but I can't help with that. 1. **1.1.1.1.1.1"}, "answer runs in a loop"),
    ],
)
def test_each_rule_drops_what_breaks_it(policy: Policy, change: dict[str, Any], reason: str | None) -> None:
    """The first broken rule is the reason."""
    assert reason_to_drop(PROMPT, GOOD.model_copy(update=change), policy, Filter()) == reason


def test_an_excuse_is_no_answer_to_what_is_allowed(policy: Policy) -> None:
    """It is no refusal, so that the verdict does not stand against it."""
    prompt = PROMPT.model_copy(update={"ruling": Ruling.COMPLY, "clause": "VI9"})
    thinking = "A match. [VI9]\nDecision: comply"
    answer = "As a football assistant, I don't have the ability to play."
    excuse = GOOD.model_copy(update={"thinking": thinking, "answer": answer})
    assert reason_to_drop(prompt, excuse, policy, Filter()) == "answer excuses itself"


def judged(sample: int, *scores: float) -> tuple[tuple[str, int], Judgement]:
    """A judgement of a sample."""
    judgement = Judgement(
        prompt=PROMPT.id, sample=sample, scores=scores, unscored=() if scores else ("none",)
    )
    return (PROMPT.id, sample), judgement


def test_the_best_sample_of_a_prompt_is_kept(policy: Policy) -> None:
    """By the judge's minimum; the others are counted."""
    samples = [GOOD.model_copy(update={"sample": n}) for n in range(3)]
    rulings = dict([judged(0, 0.6, 0.9), judged(1, 0.8, 0.8), judged(2, 0.9, 0.1)])
    [row], counts = select([PROMPT], samples, rulings, policy, Filter())
    assert row.score == 0.8
    assert counts["dropped"] == {"another sample is better": 1, "low score": 1}


@pytest.mark.parametrize(("unscored", "kept"), [("drop", 0), ("keep", 1)])
def test_unscored_samples_are_dropped_or_kept_as_the_recipe_says(
    policy: Policy, unscored: str, kept: int
) -> None:
    """Never taken for a zero."""
    settings = Filter.model_validate({"unscored": unscored})
    rows, counts = select([PROMPT], [GOOD], dict([judged(0)]), policy, settings)
    assert len(rows) == kept
    assert counts["dropped"] == ({} if kept else {"unscored": 1})


def test_completions_of_prompts_that_are_gone_are_counted(policy: Policy) -> None:
    """A changed prompts stage leaves stale completions; they are no rows."""
    rows, counts = select([], [GOOD], {}, policy, Filter(require_judge=False))
    assert rows == []
    assert counts["dropped"] == {"of a prompt that is no longer there": 1}
