from typing import Any

import pytest

from training.ifeval import CHECKS, covered, followed
from training.records import Instruction

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # kind, arguments, an answer that follows, one that does not
    ("keywords:existence", {"keywords": ["Harbour", "tide"]}, "The HARBOUR at low tide.", "The harbour."),
    (
        "keywords:frequency",
        {"keyword": "oar", "frequency": 2, "relation": "at least"},
        "An oar, a board.",
        "One oar.",
    ),
    (
        "keywords:frequency",
        {"keyword": "oar", "frequency": 2, "relation": "less than"},
        "One oar.",
        "Oar by oar.",
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["oar"]}, "A board.", "An Oar."),
    (
        "keywords:letter_frequency",
        {"letter": "Q", "let_frequency": 2, "let_relation": "at least"},
        "Quick quay.",
        "Quick.",
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        "It's", "Don't go",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo\n***", "One ***\n*** Two"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "boats"},
        "Look.\n\n\"Boats, they said.",
        "Look.\n\nThe boats.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [street]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. More.", "Bye. PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S more.", "Bye.\nP.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n- two\n- three"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and **"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\nA\nSECTION 2\nB",
        "Section 1\nA\nSECTION 2\nB",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<At sea>>\nBody", "<<  >>\nBody"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("combination:two_responses", {}, "Left ****** right", "Same ****** Same"),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Name a fish. "},
        "name a fish.\nA cod.",
        "A cod. Name a fish.",
    ),
    ("startend:end_checker", {"end_phrase": "Fair winds!"}, 'Go. "fair winds!"', "Fair winds! Bye."),
    ("startend:quotation", {}, ' "All of it." ', '"All" of it.'),
    ("punctuation:no_comma", {}, "A cod.", "A cod, a haddock."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "follows", "fails"), CASES)
def test_an_answer_follows_an_instruction_or_not(
    kind: str, arguments: dict[str, Any], follows: str, fails: str
) -> None:
    """As the set's own checker decides."""
    instruction = Instruction(kind=kind, arguments=arguments)
    assert covered(instruction)
    assert followed(instruction, follows)
    assert not followed(instruction, fails)


def test_every_check_has_a_case() -> None:
    """In the test above."""
    assert {kind for kind, *_ in CASES} == set(CHECKS)


@pytest.mark.parametrize("kind", ["punctuation:no_comma", "keywords:forbidden_words"])
def test_an_empty_answer_follows_nothing(kind: str) -> None:
    """Not even what asks to leave something out."""
    arguments = {"forbidden_words": ["oar"]} if kind.startswith("keywords") else {}
    assert not followed(Instruction(kind=kind, arguments=arguments), " \n")


@pytest.mark.parametrize(
    "instruction",
    [
        Instruction(kind="language:response_language", arguments={"language": "no"}),
        Instruction(kind="length_constraints:number_words", arguments={"relation": "at least"}),
        Instruction(kind="punctuation:no_comma", arguments={"surplus": 1}),
        Instruction(
            kind="keywords:letter_frequency",
            arguments={"letter": "#", "let_frequency": 4, "let_relation": "at least"},
        ),
    ],
)
def test_what_cannot_be_decided_exactly_is_not_covered(instruction: Instruction) -> None:
    """Unknown kinds, missing or surplus arguments, and letters that the set's checker replaces by chance."""
    assert not covered(instruction)
