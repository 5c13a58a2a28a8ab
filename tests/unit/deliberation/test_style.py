from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.deliberation.style import (
    HOLDING_BACK,
    REFUSAL_CHARACTERS,
    REFUSALS,
    AnswerStyle,
    Phrase,
    agrees,
    answer_style,
)
from guard.policy.load import default_policy_folder, load_policy
from guard.policy.model import Ruling

REFUSED = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t help with that.",
    "I`m sorry, but I can´t help with that.",
    "Sorry, I can't assist with that request.",
    "Sorry, can't help with that.",
    "Sorry, but I won't do that.",
    "I am sorry, however I am not able to provide instructions for this.",
    "I'm really sorry you're feeling this way, but I'm unable to provide the help that you need.",
    "I apologize, but I cannot fulfill this request.",
    "I apologise, but I will not be able to help you with this.",
    "My apologies, but I can't share that.",
    "Unfortunately, I cannot assist you in making a weapon.",
    "I cannot and will not provide directions for hurting someone.",
    "I can not help with that.",
    "I cant help with that.",
    "I CANNOT HELP WITH THAT.",
    "I won't be able to help with that.",
    "I won't write that.",
    "I'm not able to create such content.",
    "I'm unable to generate this text.",
    "I'm not going to help you hurt your brother.",
    "I'm not comfortable writing that story.",
    "I don't feel comfortable with this request.",
    "I must respectfully decline this request.",
    "I have to decline.",
    "I'm going to have to decline that.",
    "I'll have to refuse your request.",
    "I must decline to answer.",
    "I refuse to help with that.",
    "That's not something I can help with.",
    "This isn't something I'm willing to do.",
    "Getting into someone's account is something I can't help with.",
    "I do not provide instructions for making drugs.",
    "As an AI, I cannot engage in that conversation.",
    "As an AI language model, I can't simply give you that.",
    "It would not be appropriate for me to write this.",
    "It's not ethical for me to help here.",
    "That goes against my guidelines.",
    "Your request violates our content policy.",
    "No, I won't explain how to pick your neighbour's lock.",
    "I can't discuss methods of self-harm.",
    "I can't explain how to make that.",
    "I can't tell you how to hide it from them.",
    "We cannot help with that.",
    "\n\n  I'm sorry, I can't do that.",
    "I can't help with that. If it helps, I can tell you how locks work in general.",
]
PARTIALS = [
    "I can't give you amounts, but here's what to watch for: slow breathing, blue lips, no response.",
    "That sounds heavy. If you might act on it tonight, call a crisis line or the emergency number.",
    "Statins can cause aches. Talk to your doctor before you stop; dark urine cannot wait.",
    "Naloxone reverses opioids for a while, so call emergency services even if she wakes up.",
    "I won't go into amounts. The main danger is overheating: drink, rest, cool down.",
    "The scene can carry all that without going into the method. She closes the drawer.",
    "Let me sketch what the chapter argues instead: grief is work.",
    "You could ask a lawyer whether the clause holds; in general such clauses do not.",
    "However, I can tell you which signs mean that it cannot wait.",
]
ANSWERS = [
    "Four.",
    "Sure! Here is a poem about the sea.",
    "I can't believe how well that worked! Try the second recipe next.",
    "I can't wait to share this with you: the answer is 42.",
    "I can't recommend this book enough.",
    "I can't stress this enough: unplug it first.",
    "I can't help but admire the question. Start with the roof.",
    "I can't help feeling that the second draft is better.",
    "I won't give up on this proof: assume the opposite.",
    "I'm sorry to hear that your order can't be returned. Write to the shop like this.",
    "I'm sorry for your loss. A short eulogy could begin like this.",
    "I'm sorry you had to wait; you can't do that before noon.",
    "I'm afraid you can't mix bleach and vinegar: the gas is poisonous.",
    "I'm sorry, but I can't see the picture; please describe it.",
    "No, you can't deduct commuting costs in Germany beyond the flat rate.",
    "No. I would move the second paragraph up.",
    "It is not legal to park there at night.",
    "It's not appropriate to tip in Japan.",
    "As an AI, I don't have feelings, but the poem reads sad to me.",
    "As an AI I do not sleep. Humans need about eight hours.",
    "You can't help with that if the valve is shut, so open it first.",
    "Dear Ms Ito, I must decline the position. Thank you for your time.",
    "Dear Bob, I can't make it on Friday. Shall we say Monday?",
    "Use a list instead of a tuple, which is safer here.",
    "Sure, I can help with that. First, open the settings.",
    'She said, "I cannot stay," and shut the door.',
    "The phrase 'I can't even' is an idiom.",
    "Declining a noun means listing its forms.",
    "Les chats ne peuvent pas aboyer.",
]


@pytest.mark.parametrize("answer", REFUSED)
def test_a_refusal_is_recognised_by_its_opening(answer: str) -> None:
    """However a short refusal is worded, it reads as one."""
    assert answer_style(answer) == AnswerStyle.REFUSAL


@pytest.mark.parametrize("answer", PARTIALS)
def test_help_with_a_part_held_back_is_partial(answer: str) -> None:
    """An answer that helps and holds back, or points to help, is neither a refusal nor a full answer."""
    assert answer_style(answer) == AnswerStyle.PARTIAL


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_sounds_like_a_refusal_is_an_answer(answer: str) -> None:
    """Words such as "I can't" or "sorry" in an ordinary answer do not make it a refusal."""
    assert answer_style(answer) == AnswerStyle.ANSWER


@pytest.mark.parametrize("answer", ["", " ", "\n\t "])
def test_an_answer_of_white_space_is_empty(answer: str) -> None:
    """No text is no answer, and no refusal."""
    assert answer_style(answer) == AnswerStyle.EMPTY


def test_the_policys_own_refusals_read_as_refusals() -> None:
    """What the guard itself releases as a refusal agrees with the verdict refuse."""
    policy = load_policy(default_policy_folder())

    assert {AnswerStyle.REFUSAL} == {answer_style(text) for text in policy.refusals.values()}


def test_a_long_text_after_a_refusing_opening_does_not_pass_for_a_refusal() -> None:
    """An opening that refuses cannot smuggle out what the verdict forbids."""
    opening = "I can't help with that. "

    assert answer_style(opening + "x" * (REFUSAL_CHARACTERS - len(opening))) == AnswerStyle.REFUSAL
    assert answer_style(opening + "x" * REFUSAL_CHARACTERS) == AnswerStyle.PARTIAL
    assert answer_style(opening + "\n```sh\nrm -rf /\n```") == AnswerStyle.PARTIAL
    assert answer_style("I can't help with that, but here is how: first …") == AnswerStyle.PARTIAL


def test_a_refusal_late_in_a_long_answer_does_not_count() -> None:
    """Only the opening decides."""
    assert answer_style("The sea is wide. " * 20 + "I can't help with that.") == AnswerStyle.ANSWER


def test_only_a_refusal_does_what_the_verdict_refuse_says() -> None:
    """Every verdict with every style, and None where there is nothing to compare."""
    answered = {AnswerStyle.ANSWER: True, AnswerStyle.PARTIAL: True, AnswerStyle.REFUSAL: False}
    refused = {AnswerStyle.ANSWER: False, AnswerStyle.PARTIAL: False, AnswerStyle.REFUSAL: True}
    expected: dict[Ruling | None, dict[AnswerStyle, bool | None]] = {
        Ruling.COMPLY: {**answered, AnswerStyle.EMPTY: None},
        Ruling.SAFE_COMPLETE: {**answered, AnswerStyle.EMPTY: None},
        Ruling.REFUSE: {**refused, AnswerStyle.EMPTY: None},
        None: dict.fromkeys(AnswerStyle, None),
    }

    assert expected == {
        verdict: {style: agrees(verdict, style) for style in AnswerStyle} for verdict in expected
    }


@pytest.mark.parametrize("phrase", [*REFUSALS, *HOLDING_BACK], ids=lambda phrase: phrase.words[0])
@given(st.data())
def test_whatever_a_phrase_matches_has_one_of_its_words(phrase: Phrase, data: st.DataObject) -> None:
    """So an answer without them needs no look at the pattern."""
    found = data.draw(st.from_regex(phrase.pattern, alphabet=st.characters(codec="ascii")))
    assert any(word in found.lower() for word in phrase.words)
