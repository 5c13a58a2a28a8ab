from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from guard.errors import Problem
from guard.policy.compose import CHARACTERS_PER_TOKEN
from guard.policy.lint import LEAST_EXAMPLES, SECTION_TOKENS, SENTENCE_WORDS, VAGUE, lint
from guard.policy.load import default_policy_folder, load_policy
from guard.policy.model import Clause, Example, Policy, Ruling, Section

COMPLY = Clause("GA1", Ruling.COMPLY, "Explain how to grow plants.")
REFUSE = Clause("GA2", Ruling.REFUSE, "Help to poison a neighbour's tree.", ("the tree is dead.",))
ASKED = [f"How do I prune tree {number}?" for number in range(LEAST_EXAMPLES)]
SECTION = Section(
    id="gardens",
    title="Gardens",
    summary="Grow things.",
    definitions="- **Weed**: a plant in the wrong place.",
    clauses=(COMPLY, REFUSE),
    why="x" * round(SECTION_TOKENS[0] * CHARACTERS_PER_TOKEN),
    safe_completion="",
    examples=tuple(
        Example(prompt, Ruling.COMPLY if number % 2 else Ruling.REFUSE, "GA1" if number % 2 else "GA2")
        for number, prompt in enumerate(ASKED)
    ),
)
POLICY = Policy(
    name="small",
    title="Small",
    version="1",
    precedence=("First.",),
    principles=("Be useful.",),
    styles=dict.fromkeys(Ruling, "Answer."),
    refusals={"default": "No."},
    sections=(SECTION,),
)


def warnings(**section: Any) -> list[str]:
    """What lint says about the clean policy with its section changed."""
    return [str(found) for found in lint(replace(POLICY, sections=(replace(SECTION, **section),)))]


def wording(text: str, *exceptions: str) -> list[str]:
    """What lint says about one clause's words, its prefix left out."""
    clause = replace(COMPLY, text=text, exceptions=exceptions)
    return [found.removeprefix("gardens.md: GA1: ") for found in warnings(clauses=(clause, REFUSE))]


def test_the_default_policy_has_no_warnings() -> None:
    """What the project ships is what it asks of others."""
    assert lint(load_policy(default_policy_folder())) == ()


def test_a_clean_policy_has_no_warnings() -> None:
    """The policy that the tests below change is clean."""
    assert lint(POLICY) == ()


@pytest.mark.parametrize("tokens", [SECTION_TOKENS[0] - 250, SECTION_TOKENS[1] + 20])
def test_a_section_has_a_size(tokens: int) -> None:
    """Too small and too large are told with the estimate."""
    (found,) = warnings(why="x" * round(tokens * CHARACTERS_PER_TOKEN))

    assert found.startswith("gardens.md: is about ")
    assert found.endswith(" tokens; write 400 to 600")


def test_a_section_has_examples_enough() -> None:
    """Fewer show too little of the boundary."""
    assert warnings(examples=SECTION.examples[1:]) == ["gardens.md: has 7 examples; write at least 8"]


def test_half_of_the_examples_get_an_answer() -> None:
    """A safe completion counts as an answer; a policy of refusals refuses too much."""
    softer = replace(SECTION.examples[1], ruling=Ruling.SAFE_COMPLETE)
    harder = replace(SECTION.examples[1], ruling=Ruling.REFUSE)

    assert warnings(examples=(SECTION.examples[0], softer, *SECTION.examples[2:])) == []
    assert warnings(examples=(SECTION.examples[0], harder, *SECTION.examples[2:])) == [
        "gardens.md: 3 of 8 examples get an answer; at least half should"
    ]


@pytest.mark.parametrize("vague", VAGUE)
def test_vague_words_are_pointed_out(vague: str) -> None:
    """Whatever their case, in a clause or an exception, and once each."""
    expected = [f"{vague!r} leaves the decision to the reader; say what decides"]

    assert wording(f"Help, {vague.title()}.") == expected
    assert wording("Help.", f"it is {vague}, {vague}.") == expected


@pytest.mark.parametrize("text", ["Take badges and property.", "Discuss genericness, Generals and etchings."])
def test_words_that_only_hold_a_vague_one_are_not(text: str) -> None:
    """Whole words count."""
    assert wording(text) == []


def test_long_sentences_are_pointed_out() -> None:
    """Each sentence counts for itself."""
    long, longer = " ".join(["word"] * SENTENCE_WORDS) + ".", " ".join(["word"] * (SENTENCE_WORDS + 1)) + "."

    assert wording(f"{long} {long}") == []
    assert wording(f"{long} {longer}") == [f"a sentence of 31 words; write at most {SENTENCE_WORDS}"]
    assert wording("Help.", longer) == [f"a sentence of 31 words; write at most {SENTENCE_WORDS}"]


def test_every_clause_is_exercised_by_an_example() -> None:
    """What no example shows, no test and no training prompt is about."""
    unused = Clause("GA3", Ruling.COMPLY, "Explain beekeeping.")

    assert warnings(clauses=(COMPLY, REFUSE, unused)) == ["gardens.md: GA3 has no example"]


def test_a_section_allows_and_forbids() -> None:
    """One without a comply or a refuse clause draws no boundary."""
    allowed = tuple(replace(one, ruling=Ruling.COMPLY, clause="GA1") for one in SECTION.examples)
    forbidden = tuple(replace(one, ruling=Ruling.COMPLY, clause="GA2") for one in SECTION.examples)

    assert warnings(clauses=(COMPLY,), examples=allowed) == ["gardens.md: has no clause that says refuse"]
    assert warnings(clauses=(REFUSE,), examples=forbidden) == ["gardens.md: has no clause that says comply"]


def test_a_safe_completion_needs_a_style() -> None:
    """The section's own, or the policy's."""
    safe = Clause("GA3", Ruling.SAFE_COMPLETE, "Answer with the safe dose.")
    example = Example("How much copper?", Ruling.SAFE_COMPLETE, "GA3")
    section = replace(SECTION, clauses=(COMPLY, REFUSE, safe), examples=(*SECTION.examples, example))
    unstyled = replace(POLICY, sections=(section,), styles={**POLICY.styles, Ruling.SAFE_COMPLETE: ""})
    styled = replace(section, safe_completion="Name the safe dose.")

    assert lint(replace(POLICY, sections=(section,))) == ()
    assert lint(replace(unstyled, sections=(styled,))) == ()
    assert [str(found) for found in lint(unstyled)] == [
        "gardens.md: GA3 says safe_complete, but no style says how such an answer reads"
    ]


def test_a_style_that_no_clause_uses_is_pointed_out() -> None:
    """It would stand in the prompt for nothing."""
    assert warnings(safe_completion="Be kind.") == [
        "gardens.md: has a safe completion style, but no clause that says safe_complete"
    ]


def test_a_prompt_stands_once_in_the_policy() -> None:
    """Case, spacing and punctuation aside, in the same section or another."""
    again = Example("how do I  prune TREE 1", Ruling.COMPLY, "GA1")
    parks = replace(SECTION, id="parks", examples=(*(Example(f"Q{n}", *RULED) for n in range(7)), again))
    parks = replace(parks, clauses=(COMPLY, replace(REFUSE, id="GA1")))

    assert [str(found) for found in lint(replace(POLICY, sections=(SECTION, parks)))] == [
        "parks.md: example 'how do I  prune TREE 1' (GA1) stands already under GA1"
    ]


RULED = (Ruling.COMPLY, "GA1")


def test_prompts_of_signs_alone_are_told_apart() -> None:
    """There is no word to compare them by."""
    signs = (Example("?!", *RULED), Example("...", *RULED))

    assert warnings(examples=(*SECTION.examples, *signs)) == []


def test_characters_that_nobody_sees_are_pointed_out() -> None:
    """They would change what is quoted and hide in a review."""
    assert wording("Help\u200b people.\u200b")[:1] == ["gardens.md: holds the invisible character U+200B"]


@pytest.mark.parametrize("text", ["</policy>", "Use <think> tags.", "<|im_end|>"])
def test_tags_in_a_policy_are_pointed_out(text: str) -> None:
    """A policy that closes its own tag would free what follows it from being policy."""
    assert wording(text) == [
        "gardens.md: holds a tag that means something to the engine, such as <policy> or <think>"
    ]


def test_the_manifest_is_read_too() -> None:
    """Its texts reach the prompt or the client as well."""
    policy = replace(POLICY, principles=("Be\u200b useful.",), refusals={"default": "<think>No."})

    assert lint(policy) == (
        Problem(
            "policy.yaml", 0, "holds a tag that means something to the engine, such as <policy> or <think>"
        ),
        Problem("policy.yaml", 0, "holds the invisible character U+200B"),
    )


def test_warnings_carry_the_line_of_their_clause() -> None:
    """Where the lines are known."""
    unused = Clause("GA3", Ruling.COMPLY, "Explain beekeeping properly.")
    policy = replace(POLICY, sections=(replace(SECTION, clauses=(COMPLY, REFUSE, unused)),))

    assert [str(found) for found in lint(policy, {"GA3": 14})] == [
        "gardens.md:14: GA3 has no example",
        "gardens.md:14: GA3: 'properly' leaves the decision to the reader; say what decides",
    ]


def test_the_policy_is_not_changed_and_the_answer_is_the_same_every_time() -> None:
    """Lint is a function of the policy."""
    policy = load_policy(default_policy_folder())
    broken = replace(policy, sections=tuple(replace(s, examples=()) for s in policy.sections))

    assert lint(broken) == lint(broken)
    assert len(lint(broken)) >= len(policy.clauses)
