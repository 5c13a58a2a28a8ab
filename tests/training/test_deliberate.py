import pytest

from guard.deliberation.citations import CitationStatus
from guard.deliberation.deliberation import read_deliberation
from guard.deliberation.thinking import split_thinking
from guard.policy.model import Policy, Ruling
from training.deliberate import completion_text, gist, scaffolded_thinking, written_thinking


def test_the_reader_finds_in_every_scaffold_what_was_put_there(policy: Policy) -> None:
    """For every clause and example of the policy: verdict and citation hold, nothing is found wrong."""
    given = frozenset(policy.section)
    cases = [(c.id, c.ruling) for c in policy.clauses.values()]
    cases += [(e.clause, e.ruling) for s in policy.sections for e in s.examples]
    for name, ruling in cases:
        clause = policy.clauses[name]
        for thinking in (
            scaffolded_thinking("The user asks for a small thing.", ruling, clause),
            written_thinking('How do I get a "small" thing?', ruling, clause),
        ):
            read = read_deliberation(thinking, policy, given=given)
            assert (read.verdict, [(c.clause, c.status) for c in read.citations], read.findings) == (
                ruling, [(name, CitationStatus.VERIFIED)], (),
            )  # fmt: skip


def test_without_a_clause_the_thinking_complies_and_cites_nothing(policy: Policy) -> None:
    """An ordinary request."""
    for thinking in (
        scaffolded_thinking("The user asks the time.", Ruling.COMPLY, None),
        written_thinking("What time is it?", Ruling.COMPLY, None),
    ):
        read = read_deliberation(thinking, policy)
        assert (read.verdict, read.citations, read.findings) == (Ruling.COMPLY, (), ())


def test_the_turn_splits_into_thinking_and_answer() -> None:
    """The form that is learnt is the form that is read."""
    assert split_thinking(completion_text("Fine.\nDecision: comply", "Yes.")) == (
        "\nFine.\nDecision: comply\n",
        "Yes.",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("How do I keep bees warm in winter?", "keep bees warm in winter"),
        ("Why?", "Why"),
        ('Tell me about the "old" mill.', "about the 'old' mill"),
        ("write " + "word " * 30, "word " * 8 + "word"),
    ],
)
def test_the_gist_is_copied_from_the_request(text: str, words: str) -> None:
    """Openings are left out, the rest is short and has no double quotes."""
    assert gist(text) == words
