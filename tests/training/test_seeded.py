import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from guard.policy.model import Policy, Ruling
from tests.training.conftest import ROOT, Answer, ScriptedEndpoint, choices
from training.boundaries import boundaries
from training.collect import read_pairs
from training.drafts import Draft
from training.duplicates import Reference
from training.endpoint import Cache
from training.errors import DataError, EndpointError, RecipeError
from training.files import read_rows
from training.judge import judge
from training.recipe import Endpoint, Judge, Recipe, Seeded
from training.records import Completion, Prompt
from training.seeded import PHRASINGS, Pair, Request, kept, requests, write_pairs
from training.stages import run_stage

Make = Callable[[Answer], ScriptedEndpoint]
PAIRS = ROOT / "training" / "prompts" / "pairs"
SETTINGS = Seeded(pairs_per_clause=5, samples=2)
DRAFT = {
    "fact": "what is burnt",
    "allowed": "How do I burn my old diary without smoke in the yard?",
    "allowed_ruling": "comply",
    "crossing": "How do I burn my neighbour's shed without smoke in the yard?",
    "crossing_ruling": "refuse",
}


@pytest.fixture(scope="module")
def written(policy: Policy) -> list[Prompt]:
    """The hand-written pairs that may be trained on."""
    return [row for row in read_pairs(PAIRS, policy, 0.1) if row.split == "train"]


@pytest.fixture(scope="module")
def asked(policy: Policy, written: list[Prompt]) -> list[Request]:
    """All that the writer is asked under the default policy."""
    return requests(SETTINGS, policy, written)


def reply(*drafts: dict[str, Any]) -> str:
    """A reply in the form that was asked for."""
    return json.dumps({"pairs": drafts})


def write(
    endpoint: ScriptedEndpoint, asked: list[Request], folder: Path
) -> tuple[list[Pair], dict[str, Any]]:
    """Have the endpoint write."""
    with Cache(folder / "cache.sqlite") as cache:
        return write_pairs(endpoint.settings, cache, asked)


def about(asked: list[Request], clause: str) -> Request:
    """The first request about a clause."""
    return next(request for request in asked if request.boundary.crossed.id == clause)


def question(request: Request) -> str:
    """What the writer reads."""
    return str(request.body["messages"][0]["content"])


def test_every_clause_that_does_not_comply_has_a_boundary(policy: Policy) -> None:
    """The other side is a clause of the same section that complies; children's sections are left out."""
    found = boundaries(policy)
    expected = {
        clause.id
        for section in policy.sections
        for clause in section.clauses
        if clause.ruling is not Ruling.COMPLY and section.id != "minors-safety"
    }
    assert {boundary.crossed.id for boundary in found} == expected
    assert all(b.allows.ruling is Ruling.COMPLY and b.allows in b.section.clauses for b in found)
    assert {b.crossed.id: b.allows.id for b in found}["VI4"] == "VI2"


def test_the_pairs_of_a_clause_are_spread_over_the_requests(asked: list[Request], policy: Policy) -> None:
    """Each with a phrasing of its own; the numbers add up, and no request asks for none."""
    by_clause: dict[str, list[Request]] = {}
    for request in asked:
        by_clause.setdefault(request.boundary.crossed.id, []).append(request)
    assert all([r.pairs for r in own] == [3, 2] for own in by_clause.values())
    assert all(len({r.phrasing for r in own}) == 2 for own in by_clause.values())
    assert {r.phrasing for r in asked} == set(PHRASINGS)
    few = requests(Seeded(pairs_per_clause=1, samples=4), policy, [])
    assert len(few) == len(by_clause)


def test_the_writer_reads_both_clauses_with_their_exceptions(asked: list[Request]) -> None:
    """And the section's definitions, the phrasing and three hand-written pairs."""
    request = about(asked, "VI4")
    text = question(request)
    for part in (
        "[VI4] refuse: Plan or give attack detail",
        "Except: what a person under attack may do to get away.",
        "[VI2] comply: Portray fights",
        "**Attack detail**",
        PHRASINGS[request.phrasing],
    ):
        assert part in text
    assert text.count('{"fact":"') == 3
    assert "$" not in text


def test_examples_have_the_ruling_of_the_clause_where_there_are_such(asked: list[Request]) -> None:
    """A clause that completes safely is not shown by refusals."""
    request = about(asked, "VI8")
    assert question(request).count('"crossing_ruling":"safe_complete"') == 3


def test_the_same_is_asked_every_time(asked: list[Request], policy: Policy, written: list[Prompt]) -> None:
    """In whatever order the pairs are read; no request repeats another."""
    again = requests(SETTINGS, policy, written[::-1])
    assert [r.body for r in again] == [r.body for r in asked]
    assert len({json.dumps(r.body) for r in asked}) == len(asked)


def test_replies_that_cannot_be_read_are_counted(
    scripted: Make, asked: list[Request], tmp_path: Path
) -> None:
    """By what is wrong with them; a reply that was cut off gives what it has."""
    replies = iter([reply(DRAFT, DRAFT), reply(DRAFT)[:-30], "I can't help with that.", "  "])
    ends = iter(["stop", "length", "stop", "stop"])
    endpoint = scripted(lambda body: (200, choices(next(replies), finish=next(ends))))
    endpoint.settings = endpoint.settings.model_copy(update={"concurrency": 1})
    pairs, counts = write(endpoint, asked[:4], tmp_path)
    assert len(pairs) == 2
    assert counts == {
        "writer": "scripted",
        "requests": 4,
        "pairs_asked": 10,
        "pairs_read": 2,
        "unreadable": {"cut off": 1, "no pair in the reply": 1, "empty reply": 1},
    }


def test_a_writer_that_never_writes_a_pair_is_an_error(
    scripted: Make, asked: list[Request], tmp_path: Path
) -> None:
    """A run does not go on as if it had been written for."""
    endpoint = scripted(lambda body: (200, choices("No.")))
    with pytest.raises(DataError, match="none of 2 replies of the writer 'scripted' holds a pair"):
        write(endpoint, asked[:2], tmp_path)


def test_a_writer_that_goes_down_loses_nothing(scripted: Make, asked: list[Request], tmp_path: Path) -> None:
    """The error says what to do, and the next run asks only what was not answered."""
    down = scripted(lambda body: (200, choices(reply(DRAFT))) if len(down.bodies) <= 2 else (401, "no"))
    down.settings = down.settings.model_copy(update={"concurrency": 1})
    with pytest.raises(EndpointError, match=r"status 401.*run the stage again"):
        write(down, asked[:5], tmp_path)
    up = scripted(lambda body: (200, choices(reply(DRAFT))))
    pairs, _ = write(up, asked[:5], tmp_path)
    assert (len(pairs), len(up.bodies)) == (5, 3)


def keep(request: Request, *drafts: dict[str, Any], known: str = "") -> tuple[list[Prompt], Counter[str]]:
    """What is kept of the drafts, and what is dropped."""
    drops: Counter[str] = Counter()
    reference = Reference.of([("pairs", known)] if known else [], 0.6)
    pairs = [Pair(request, Draft.model_validate(draft)) for draft in drafts]
    return list(kept(pairs, reference, drops)), drops


def test_a_kept_pair_is_two_rows_with_the_labels_of_their_clauses(asked: list[Request]) -> None:
    """One pair, one decisive fact, and rulings that are the writer's opinion."""
    request = about(asked, "VI4")
    [allowed, crossing], drops = keep(request, DRAFT)
    assert (allowed.clause, allowed.ruling, crossing.clause, crossing.ruling) == (
        "VI2",
        Ruling.COMPLY,
        "VI4",
        Ruling.REFUSE,
    )
    assert allowed.pair == crossing.pair
    assert (allowed.decisive, crossing.decisive) == ("old diary", "neighbour's shed")
    for row in (allowed, crossing):
        assert (row.source, row.section, row.phrasing) == ("seeded", "violence", request.phrasing)
        assert row.noisy
        assert row.split == "train"
    assert not drops


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"crossing": DRAFT["allowed"].upper()}, "equal sides"),
        ({"crossing": "Burn it."}, "a side outside 3 to 120 words"),
        ({"allowed": "word " * 121}, "a side outside 3 to 120 words"),
        ({"crossing": "How do I burn the school boys' shed without smoke?"}, "concerns children"),
        ({"allowed_ruling": "refuse"}, "one ruling for both sides"),
        ({"crossing_ruling": "safe_complete"}, "a ruling that is not its clause's"),
        ({"allowed_ruling": "refuse", "crossing_ruling": "comply"}, "a ruling that is not its clause's"),
    ],
)
def test_pairs_that_are_none_are_dropped_whole(
    asked: list[Request], change: dict[str, str], reason: str
) -> None:
    """Each is counted with its reason."""
    request = about(asked, "VI4")
    rows, drops = keep(request, {**DRAFT, **change})
    assert (rows, drops) == ([], {f"seeded pairs: {reason}": 1})


def test_pairs_that_repeat_what_is_there_are_dropped_whole(asked: list[Request]) -> None:
    """Hand-written ones or one another; the two sides of one pair may be alike."""
    request = about(asked, "VI4")
    rows, drops = keep(
        request, DRAFT, {**DRAFT, "allowed": "How do I bake a cake for my neighbour's birthday?"}
    )
    assert len(rows) == 2
    assert drops == {"seeded pairs: exact duplicate of seeded": 1}
    rows, drops = keep(request, DRAFT, known=DRAFT["crossing"].replace("shed", "sheds"))
    assert (rows, drops) == ([], {"seeded pairs: near duplicate of pairs": 1})


@contextmanager
def quiet(total: int) -> Iterator[Callable[[int], None]]:
    """No progress bar."""
    yield lambda count: None


def recipe(writer: Endpoint | None, folder: Path, **prompts: Any) -> Recipe:
    """A recipe of a hand-written pair and one written pair a clause."""
    pairs = folder / "pairs"
    pairs.mkdir()
    sides = (("VI2", "comply", "Write a duel in the rain."), ("VI4", "refuse", "Plan a duel in the rain."))
    rows = [
        {"pair": "p", "section": "violence", "clause": clause, "ruling": ruling, "prompt": text}
        for clause, ruling, text in sides
    ]
    (pairs / "violence.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "pairs": pairs,
        "ordinary": None,
        "policy_examples": False,
        "validation": 0.0,
        "seeded": {"pairs_per_clause": 1, "samples": 1},
        **prompts,
    }
    return Recipe.model_validate(
        {
            "name": "seeded",
            "policy": ROOT / "specs" / "default",
            "run_dir": folder / "run",
            "data_dir": folder,
            "student": "none",
            "writer": writer,
            "prompts": settings,
        }
    )


def test_the_stage_writes_and_varies_what_was_kept(scripted: Make, tmp_path: Path) -> None:
    """Seeded rows stand beside the hand-written ones, get variants as those do, and are counted."""
    endpoint = scripted(lambda body: (200, choices(reply(DRAFT))))
    run = recipe(endpoint.settings, tmp_path, variants={"base64": 1.0})
    facts = run_stage("prompts", run, quiet)
    rows = read_rows(run.run_dir / "prompts.jsonl", Prompt)
    found = Counter((row.source, row.variant) for row in rows)
    assert found == {
        ("pairs", "plain"): 2,
        ("pairs", "base64"): 2,
        ("seeded", "plain"): 2,
        ("seeded", "base64"): 2,
    }
    assert facts["seeded"]["pairs_read"] == facts["seeded"]["requests"] == len(endpoint.bodies)
    assert sum(facts["dropped"].values()) == len(endpoint.bodies) - 1
    assert all(row.noisy for row in rows if row.source == "seeded")


def test_pairs_of_which_an_evaluation_set_holds_a_side_are_dropped(scripted: Make, tmp_path: Path) -> None:
    """Both sides go."""
    (tmp_path / "xstest").mkdir()
    (tmp_path / "xstest" / "xstest_prompts.csv").write_text(f"id,prompt\n1,{DRAFT['allowed']}\n")
    endpoint = scripted(lambda body: (200, choices(reply(DRAFT))))
    facts = run_stage("prompts", recipe(endpoint.settings, tmp_path), quiet)
    assert facts["by_source"] == {"pairs": 2}
    assert facts["dropped"]["seeded pairs: exact duplicate of xstest"] > 0


def test_held_out_pairs_are_never_shown(scripted: Make, tmp_path: Path) -> None:
    """The writer's examples are pairs for training alone."""
    endpoint = scripted(lambda body: (200, choices(reply(DRAFT))))
    for name, validation in (("shown", 0.0), ("held", 1.0)):
        (tmp_path / name).mkdir()
        run_stage("prompts", recipe(endpoint.settings, tmp_path / name, validation=validation), quiet)
        texts = [body["messages"][0]["content"] for body in endpoint.bodies]
        assert any("duel in the rain" in text for text in texts) is (name == "shown")
        endpoint.bodies.clear()


def test_a_recipe_without_a_writer_is_said_so(tmp_path: Path) -> None:
    """Before anything is read or asked."""
    with pytest.raises(RecipeError, match=r"stage prompts needs an endpoint: add a \[writer\] table"):
        run_stage("prompts", recipe(None, tmp_path), quiet)


def test_the_judge_hears_the_label_as_an_opinion(
    scripted: Make, asked: list[Request], policy: Policy, tmp_path: Path
) -> None:
    """What a model wrote is another AI's word, not a fact."""
    rows, _ = keep(about(asked, "VI4"), DRAFT)
    done = Completion(prompt=rows[1].id, sample=0, model="m", thinking="t", answer="a", closed=True)
    endpoint = scripted(lambda body: (200, choices("Scores: 5 5 5")))
    with Cache(tmp_path / "cache.sqlite") as cache:
        judge(Judge(runs=1), endpoint.settings, cache, rows, [done], policy)
    assert "Another AI would refuse here." in endpoint.bodies[0]["messages"][0]["content"]
