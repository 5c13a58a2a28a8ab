from pathlib import Path

import pytest

from guard.deliberation.style import agrees, answer_style
from guard.policy.model import Policy, Ruling
from training.errors import DataError
from training.recipe import Filter
from training.records import Prompt, prompt_id, user
from training.select import reason_to_drop
from training.written import load_answers, own_prompts, write_completions

ANSWERS = Path(__file__).parents[2] / "training" / "prompts" / "answers.toml"


def prompt(text: str, ruling: Ruling, clause: str | None = None, section: str | None = None) -> Prompt:
    """A prompt with its labels."""
    messages = user(text)
    return Prompt(
        id=prompt_id(messages),
        messages=messages,
        source="pairs",
        ruling=ruling,
        clause=clause,
        section=section,
    )


def test_the_answer_book_does_what_each_clause_says(policy: Policy) -> None:
    """Every clause that refuses or completes safely has answers of that style, whatever the draw."""
    book = load_answers(ANSWERS)
    for clause in policy.clauses.values():
        if clause.ruling is Ruling.COMPLY:
            continue
        for key in "abcdefgh":
            answer = book.answer(clause, policy, key)
            assert answer is not None, clause.id
            assert agrees(clause.ruling, answer_style(answer)), (clause.id, answer)


def test_the_answer_book_knows_no_other_clauses(policy: Policy) -> None:
    """What the policy no longer has does not linger here."""
    book = load_answers(ANSWERS)
    for name in (*book.refuse, *book.safe_complete):
        assert policy.clauses[name].ruling in {Ruling.REFUSE, Ruling.SAFE_COMPLETE}, name


def test_written_completions_pass_the_filter(policy: Policy) -> None:
    """Each ruling gives a row that breaks no rule; without an own answer it teaches the thinking alone."""
    rows = [
        prompt("Where do I buy a fake visa?", Ruling.REFUSE, "DF4", "deception-fraud"),
        prompt("I want to go.", Ruling.SAFE_COMPLETE, "SH4", "self-harm"),
        prompt("Which bread keeps longest?", Ruling.COMPLY),
        prompt("Which cheese keeps longest?", Ruling.COMPLY),
    ]
    own = {rows[2].id: "Rye bread."}
    completions, counts = write_completions(rows, policy, load_answers(ANSWERS), own)
    assert counts == {"completions": 4, "skipped": {}}
    assert [c.thinking_only for c in completions] == [False, False, False, True]
    for row, completion in zip(rows, completions, strict=True):
        assert reason_to_drop(row, completion, policy, Filter()) is None


def test_answers_of_the_book_can_be_as_few_as_the_students_own(policy: Policy) -> None:
    """The other rows to refuse teach the thinking alone, as those to comply with do."""
    rows = [
        prompt(f"Where do I buy fake visa {n}?", Ruling.REFUSE, "DF4", "deception-fraud") for n in range(9)
    ]
    completions, _ = write_completions(rows, policy, load_answers(ANSWERS), {}, answered=4)
    assert sum(not c.thinking_only for c in completions) == 4


def test_a_refusal_without_clause_takes_that_of_the_nearest_prompt(policy: Policy) -> None:
    """Imported prompts know their section alone."""
    known = prompt("Sell me stolen bicycles at night", Ruling.REFUSE, "IL5", "illicit-behaviour")
    other = prompt("Cook drugs in a kitchen", Ruling.REFUSE, "IL4", "illicit-behaviour")
    imported = prompt("Who sells stolen bicycles", Ruling.REFUSE, None, "illicit-behaviour")
    completions, _ = write_completions([known, other, imported], policy, load_answers(ANSWERS), {})
    assert "[IL5]" in completions[-1].thinking


@pytest.mark.parametrize(
    ("limit", "chosen"), [(2, "or a"), (4, "or os a b"), (6, "or os a b c d"), (9, "or os a b c d")]
)
def test_half_of_what_the_student_answers_itself_is_ordinary(limit: int, chosen: str) -> None:
    """Where there is so much of it; else more from near the boundary, in a fixed draw."""
    near = prompt("Near the boundary", Ruling.COMPLY, "IL1", "illicit-behaviour")
    prompts = [near.model_copy(update={"id": name}) for name in "dcba"]
    prompts += [near.model_copy(update={"id": name, "source": "ordinary"}) for name in ("os", "or")]
    prompts.append(prompt("No", Ruling.REFUSE, "IL4", "illicit-behaviour"))
    assert [p.id for p in own_prompts(prompts, limit)] == chosen.split()


@pytest.mark.parametrize("text", ["[refuse.X]\n", "nonsense = 3\n", "["])
def test_a_bad_answer_book_is_said_so(tmp_path: Path, text: str) -> None:
    """Missing parts, unknown keys and broken TOML name the file."""
    path = tmp_path / "answers.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"answers.toml"):
        load_answers(path)
