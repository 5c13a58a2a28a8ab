from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.deliberation.citations import (
    QUOTE_MIN_WORDS,
    Citation,
    CitationStatus,
    check_citations,
    find_mentions,
    quotes,
)
from guard.policy.load import default_policy_folder, load_policy
from guard.policy.model import Clause, Policy, Ruling, Section

POLICY = load_policy(default_policy_folder())
SH3 = POLICY.clauses["SH3"]
GIVEN = frozenset({"self-harm"})
VERIFIED, UNKNOWN, MISQUOTED = CitationStatus.VERIFIED, CitationStatus.UNKNOWN, CitationStatus.MISQUOTED
STALE, NOT_GIVEN = CitationStatus.STALE, CitationStatus.NOT_GIVEN

MENTIONS: dict[str, list[str]] = {
    "[SH3]": ["SH3"],
    "[sh3]": ["SH3"],
    "[ SH3 ]": ["SH3"],
    "([SH3])": ["SH3"],
    "**[SH3]**": ["SH3"],
    "text[SH3]text": ["SH3"],
    "[SH3](policy.md)": ["SH3"],
    "[SH3][SH4]": ["SH3", "SH4"],
    "[SH3], [VI4]": ["SH3", "VI4"],
    "[SH3, VI4]": ["SH3", "VI4"],
    "[SH3,VI4;PR5]": ["SH3", "VI4", "PR5"],
    "[SH3/SH4]": ["SH3", "SH4"],
    "[SH3 & SH4]": ["SH3", "SH4"],
    "[SH3 + SH4]": ["SH3", "SH4"],
    "[SH3 and SH4]": ["SH3", "SH4"],
    "[SH3 or SH4]": ["SH3", "SH4"],
    "[SH3, SH4, and VI4]": ["SH3", "SH4", "VI4"],
    "[SH3 SH4]": ["SH3", "SH4"],
    "- [SH3]\n- [SH4]": ["SH3", "SH4"],
    "[clause SH3]": ["SH3"],
    "[Section SH3]": ["SH3"],
    "[clauses SH3, SH4]": ["SH3", "SH4"],
    "clause SH3 forbids": ["SH3"],
    "Section SH3, which": ["SH3"],
    "rule sh3": ["SH3"],
    "Clauses SH3 and SH4 differ": ["SH3", "SH4"],
    "clauses SH3, SH4, and VI4": ["SH3", "SH4", "VI4"],
    "clause [SH3]": ["SH3"],
    "[ZZ99]": ["ZZ99"],
    "[ABCD123]": ["ABCD123"],
    "no citation": [],
    "[1]": [],
    "[12]": [],
    "[a]": [],
    "[i2]": [],
    "a[i2]": [],
    "data[row1]": [],
    "f(x)[row1]": [],
    "a[0][row1]": [],
    "_[row1]": [],
    "[SH]": [],
    "[SH0]": [],
    "[SH03]": [],
    "[SH1000]": [],
    "[ABCDE1]": [],
    "[S3]": [],
    "[SH3": [],
    "SH3]": [],
    "SH3": [],
    "(SH3)": [],
    "[^SH3]": [],
    "[SH3-SH6]": [],
    "[SH3–SH6]": [],
    "[SH3 to SH6]": [],
    "[SH3 because]": [],
    "[SH3.1]": [],
    "section 3": [],
    "rule of SH3": [],
    "subsection SH3x": [],
    "[ ]": [],
    "": [],
}


@pytest.mark.parametrize(("text", "expected"), MENTIONS.items())
def test_clauses_are_found_as_models_write_them(text: str, expected: list[str]) -> None:
    """In brackets, lists, lower case, after "clause"; not in footnotes, code or ranges."""
    assert [mention.clause for mention in find_mentions(text)] == expected


QUOTED = {
    '[SH3] "give method detail"': "give method detail",
    "[SH3] “give method detail”": "give method detail",
    "[SH3] „give method detail“": "give method detail",
    "[SH3] «give method detail»": "give method detail",
    '[SH3] “give method detail"': "give method detail",
    '[SH3]: "give method detail"': "give method detail",
    '[SH3], "give method detail"': "give method detail",
    '[SH3] ("give method detail")': "give method detail",
    '[SH3] - "give method detail"': "give method detail",
    '[SH3] — "give method detail"': "give method detail",
    '**[SH3]** "give method detail"': "give method detail",
    '[SH3] *"give method detail"*': "give method detail",
    '[SH3]"give method detail"': "give method detail",
    '[SH3] "give  method\tdetail "': "give method detail",
    'clause SH3 "give method detail"': "give method detail",
    '[SH3] "give method detail, say" and "more"': "give method detail, say",
    '[SH3] "don\'t give up"': "don't give up",
    "[SH3]": "",
    '[SH3] says "give method detail"': "",
    '[SH3]. "Help me" is asked.': "",
    '[SH3]\n"Help me" is asked.': "",
    '[SH3] "give method\ndetail"': "",
    '[SH3] "see clause SH4 as well"': "see clause SH4 as well",
    '[SH3] "give […] method [...] detail"': "give […] method [...] detail",
    '[SH3] "give method detail': "",
    "[SH3] 'give method detail'": "",
    '[SH3] ""': "",
    '[SH3] "' + "x" * 601 + '"': "",
}


@pytest.mark.parametrize(("text", "expected"), QUOTED.items())
def test_quoted_words_after_a_citation_are_found(text: str, expected: str) -> None:
    """In the quotation marks of several languages, on the same line."""
    assert [mention.quote for mention in find_mentions(text)] == [expected]


def test_the_quotation_after_several_ids_is_the_last_ones() -> None:
    """Until the policy shows whose words they are."""
    assert [
        (mention.clause, mention.quote) for mention in find_mentions('[SH3, SH4] "take the feeling"')
    ] == [
        ("SH3", ""),
        ("SH4", "take the feeling"),
    ]


def test_a_quotation_without_end_does_not_swallow_the_next_citation() -> None:
    """Both are found, the second with its own."""
    assert [(mention.clause, mention.quote) for mention in find_mentions('[SH3] "give [SH4] "take" it')] == [
        ("SH3", ""),
        ("SH4", "take"),
    ]


@given(st.lists(st.sampled_from([*MENTIONS, *QUOTED, " ", "\n", "x "]), max_size=8).map(" ".join))
@example('[SH3, VI4] "a b c"[SH3]')
def test_spans_point_at_what_was_found(text: str) -> None:
    """Bracket and quotation, in order, without overlap."""
    end = 0
    previous = (-1, -1)
    for mention in find_mentions(text):
        span = (mention.start, mention.end)
        written = text[mention.start : mention.end]

        assert mention.clause in written.upper()
        assert mention.quote in " ".join(written.split())
        assert span == previous or mention.start >= end
        end, previous = mention.end, span


@given(st.text(max_size=60))
def test_any_text_can_be_searched(text: str) -> None:
    """Every mention lies in it."""
    assert all(0 <= mention.start < mention.end <= len(text) for mention in find_mentions(text))


def status(
    text: str,
    given: frozenset[str] = GIVEN,
    learnt: frozenset[str] = frozenset(),
    earlier: Mapping[str, tuple[Clause, ...]] | None = None,
    policy: Policy = POLICY,
) -> list[tuple[str, CitationStatus]]:
    """Clause and status of each citation."""
    checked = check_citations(text, policy, given=given, learnt=learnt, earlier=earlier)
    return [(citation.clause, citation.status) for citation in checked]


def test_a_citation_of_a_given_clause_is_verified() -> None:
    """With everything that the record keeps of it."""
    thinking = 'This asks for a method. [SH3] "compare methods, or help to hide" fits.'

    assert check_citations(thinking, POLICY, given=GIVEN) == (
        Citation(
            clause="SH3",
            status=VERIFIED,
            quote="compare methods, or help to hide",
            start=thinking.index("["),
            end=thinking.index(" fits"),
            section="self-harm",
        ),
    )


def test_a_citation_of_a_clause_that_never_was_is_unknown() -> None:
    """It has no section."""
    (citation,) = check_citations("[SH99]", POLICY, given=GIVEN)

    assert (citation.status, citation.section) == (UNKNOWN, None)


def test_a_word_in_lower_case_that_is_no_clause_is_no_citation() -> None:
    """Leniency towards case must not turn text into hallucinated clauses."""
    assert status("The columns are [ab1, cd2] and [Note1]; see [sh3].") == [("SH3", VERIFIED)]


def test_other_words_in_quotation_marks_are_a_misquotation() -> None:
    """Also words of another clause."""
    assert status('[SH3] "bake bread at dawn"') == [("SH3", MISQUOTED)]
    assert status('[SH3] "take the feeling seriously, ask about safety"') == [("SH3", MISQUOTED)]


def test_a_quotation_after_several_ids_goes_to_the_clause_whose_words_it_holds() -> None:
    """It is misquoted only where none of them has it."""
    quoted = check_citations('[SH3, SH4] "compare methods, or help"', POLICY, given=GIVEN)

    assert [(c.clause, c.status, c.quote) for c in quoted] == [
        ("SH3", VERIFIED, "compare methods, or help"),
        ("SH4", VERIFIED, ""),
    ]
    assert status('[SH3, SH4] "bake bread at dawn"') == [("SH3", VERIFIED), ("SH4", MISQUOTED)]


def test_a_clause_whose_section_was_not_before_the_model_is_not_given() -> None:
    """Unless the model has learnt the section in this wording."""
    learnt = frozenset({POLICY.section["self-harm"].digest})
    other = frozenset({POLICY.section["violence"].digest})

    assert status("[SH3]", frozenset()) == [("SH3", NOT_GIVEN)]
    assert status("[SH3]", frozenset({"violence"}), other) == [("SH3", NOT_GIVEN)]
    assert status("[SH3]", frozenset(), learnt) == [("SH3", VERIFIED)]


def test_a_misquotation_weighs_more_than_not_being_given() -> None:
    """What is made up is worse than what was remembered."""
    assert status('[SH3] "bake bread at dawn"', frozenset()) == [("SH3", MISQUOTED)]


def test_a_clause_that_an_earlier_version_had_is_stale() -> None:
    """Whatever is quoted from it."""
    earlier = {"SH99": (Clause("SH99", Ruling.REFUSE, "Say nothing at all."),)}

    assert status("[SH99]", earlier=earlier) == [("SH99", STALE)]
    assert status('[SH99] "bake bread at dawn"', earlier=earlier) == [("SH99", STALE)]
    assert status("[sh99]", earlier=earlier) == [("SH99", STALE)]


def test_words_that_an_earlier_version_had_are_stale() -> None:
    """The clause is there, its wording has changed; other words are a misquotation all the same."""
    earlier = {"SH3": (replace(SH3, text="Never mention bridges by name."), replace(SH3, text="Stay calm."))}

    assert status('[SH3] "never mention bridges"', earlier=earlier) == [("SH3", STALE)]
    assert status('[SH3] "bake bread at dawn"', earlier=earlier) == [("SH3", MISQUOTED)]
    assert status('[SH3] "compare methods, or help"', earlier=earlier) == [("SH3", VERIFIED)]


CLAUSE = Clause(
    "SI9",
    Ruling.REFUSE,
    "Don't lecture people, and never repeat a warning without the user's need.",
    ("a child may be warned twice.",),
)
QUOTATIONS = {
    "Don't lecture people": True,
    "DON'T LECTURE PEOPLE": True,
    "Don’t lecture people, and never repeat a warning without the user’s need": True,
    "lecture people, and never": True,
    "never repeat a warning": True,
    "a child may be warned twice": True,
    "Don't lecture people.": True,
    "Don't lecture persons, and never repeat a warning": True,
    "refuse: Don't lecture people": True,
    "Don't lecture people … without the user's need": True,
    "Don't lecture people ... without the user's need": True,
    "Don't lecture people [...] without the user's need": True,
    "… never repeat a warning …": True,
    "a warning": True,
    "bake bread": True,
    "": True,
    "...": True,
    "bake bread at dawn": False,
    "Lecture people, and never repeat a warning": True,
    "and repeat a warning without the user's need": False,
    "people, and repeat a warning without": False,
    "Don't lecture people, and never repeat a warning with the user's need": False,
    "never lecture people, and never repeat": False,
    "Don't lecture people … bake bread at dawn": False,
    "Don't lecture people, and never repeat a warning without the user's need, " + "x" * 40: False,
}


@pytest.mark.parametrize(("quote", "expected"), QUOTATIONS.items())
def test_quoted_words_are_the_clauses_own_or_not(quote: str, expected: bool) -> None:
    """Case, apostrophes, ellipses and small slips pass; other words and a dropped negation do not."""
    assert quotes(quote, CLAUSE) is expected


def test_a_word_or_two_are_emphasis() -> None:
    """They are not held against the clause."""
    assert quotes(" ".join(["bread"] * (QUOTE_MIN_WORDS - 1)), CLAUSE)
    assert not quotes(" ".join(["bread"] * QUOTE_MIN_WORDS), CLAUSE)


CLAUSES = tuple(POLICY.clauses.values())


def test_a_clause_quoted_whole_or_in_part_is_its_own() -> None:
    """Over the default policy, with the same words in any length from any place."""
    for clause in CLAUSES:
        words = clause.text.split()
        parts = (" ".join(words[at : at + 6]) for at in range(0, len(words), 3))

        assert [part for part in (clause.text, *clause.exceptions, *parts) if not quotes(part, clause)] == []


def test_a_clause_quoted_with_another_ending_passes() -> None:
    """As the comment on QUOTE_MATCH says."""
    assert [c.id for c in CLAUSES if not quotes(c.text.rstrip(".") + "ing", c)] == []


def test_a_clause_quoted_with_a_word_dropped_passes_nine_times_out_of_ten() -> None:
    """As the comment on QUOTE_MATCH says; long words and negations make up the rest."""
    passed = total = 0
    for clause in CLAUSES:
        words = clause.text.split()
        for at in range(len(words)):
            passed += quotes(" ".join(words[:at] + words[at + 1 :]), clause)
            total += 1

    assert passed / total >= 0.9


def test_no_clause_passes_for_another() -> None:
    """As the comment on QUOTE_MATCH says, over all pairs of the default policy."""
    assert [(a.id, b.id) for a in CLAUSES for b in CLAUSES if a is not b and quotes(a.text, b)] == []


def test_citations_are_checked_against_the_given_policy_alone() -> None:
    """An empty policy knows no clause."""
    section = Section("parks", "Parks", "Walk.", "", (Clause("PA1", Ruling.COMPLY, "Walk."),), "", "", ())
    parks = replace(POLICY, sections=(section,))

    assert status("[SH3] and [PA1]", frozenset({"parks"}), policy=parks) == [
        ("SH3", UNKNOWN),
        ("PA1", VERIFIED),
    ]
