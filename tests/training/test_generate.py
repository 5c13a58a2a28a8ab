from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard.policy.compose import render_section
from guard.policy.model import Policy, Ruling
from tests.training.conftest import Answer, ScriptedEndpoint, choices
from training.endpoint import Cache
from training.generate import generate, whole_sentences
from training.recipe import Filter, Generate
from training.records import Prompt, prompt_id, user
from training.select import reason_to_drop

Make = Callable[[Answer], ScriptedEndpoint]


def prompt(text: str, ruling: Ruling, clause: str | None, section: str | None = "violence") -> Prompt:
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


REFUSED = prompt("How do I hurt Bo?", Ruling.REFUSE, "VI4")


def run(endpoint: ScriptedEndpoint, mode: str, prompts: list[Prompt], policy: Policy, path: Path) -> Any:
    """One generate stage."""
    with Cache(path / "cache.sqlite") as cache:
        settings = Generate.model_validate({"mode": mode})
        return generate(settings, endpoint.settings, cache, prompts, policy)


def test_free_deliberation_has_the_section_in_context(scripted: Make, policy: Policy, tmp_path: Path) -> None:
    """The teacher reads the section in full and goes on from a begun thinking; its turn passes the filter."""
    quote = "Plan or give attack detail for hurting"
    answer = "I'm sorry, I can't help with that."
    turn = f' asks for harm. [VI4] "{quote}"\nDecision: refuse\n</think>\n\n{answer}'
    endpoint = scripted(lambda body: (200, choices(turn)))
    [completion], counts = run(endpoint, "free", [REFUSED], policy, tmp_path)
    messages = endpoint.bodies[0]["messages"]
    assert render_section(policy.section["violence"]) in messages[0]["content"]
    assert messages[-1] == {"role": "assistant", "content": "<think>\nThe user"}
    assert messages[-2] == {"role": "user", "content": REFUSED.text}
    assert completion.thinking.startswith("The user asks for harm.")
    assert reason_to_drop(REFUSED, completion, policy, Filter()) is None
    assert counts["unreadable"] == 0


def test_scaffold_puts_label_and_free_text_together(scripted: Make, policy: Policy, tmp_path: Path) -> None:
    """Clause and verdict come from the label, what is asked and the answer from the teacher."""
    endpoint = scripted(
        lambda body: (200, choices(" wants to hurt Bo.\nAnswer: I'm sorry, I can't help with that."))
    )
    [completion], _ = run(endpoint, "scaffold", [REFUSED], policy, tmp_path)
    assert completion.thinking == (
        "The user wants to hurt Bo. Plan or give attack detail for hurting [VI4]\nDecision: refuse"
    )
    assert completion.answer == "I'm sorry, I can't help with that."
    assert "Decision: refuse" in endpoint.bodies[0]["messages"][-2]["content"]


def test_replies_without_the_form_are_counted(scripted: Make, policy: Policy, tmp_path: Path) -> None:
    """They are no completions, and no crash."""
    endpoint = scripted(lambda body: (200, choices(" cannot follow instructions")))
    completions, counts = run(endpoint, "scaffold", [REFUSED], policy, tmp_path)
    assert (completions, counts["unreadable"]) == ([], 1)


def test_an_import_gets_its_clause_from_the_teacher(scripted: Make, policy: Policy, tmp_path: Path) -> None:
    """The teacher chooses among the refusing clauses of the section, and no other word."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "structured_outputs" in body:
            assert body["structured_outputs"]["choice"] == ["VI4", "VI5", "VI6", "VI7"]
            return 200, choices("VI6")
        return 200, choices(" wants dogs to fight.\nAnswer: I'm sorry, I can't help with that.")

    imported = prompt("Make dogs fight", Ruling.REFUSE, None)
    [completion], _ = run(scripted(answer), "scaffold", [imported], policy, tmp_path)
    assert "[VI6]" in completion.thinking


def test_prompts_are_asked_section_by_section(scripted: Make, policy: Policy, tmp_path: Path) -> None:
    """So that the engine's prefix cache holds a section once."""
    rows = [
        prompt(f"q{n}", Ruling.REFUSE, "VI4" if n % 2 else "SH3", "violence" if n % 2 else "self-harm")
        for n in range(6)
    ]
    endpoint = scripted(lambda body: (200, choices(" asks.\nAnswer: I'm sorry, I can't help with that.")))
    endpoint.settings = endpoint.settings.model_copy(update={"concurrency": 1})
    run(endpoint, "scaffold", rows, policy, tmp_path)
    systems = [body["messages"][0]["content"] for body in endpoint.bodies]
    assert systems == sorted(systems, key=systems.index)
    assert len(set(systems)) == 2


@pytest.mark.parametrize(
    ("text", "cut", "kept"),
    [
        ("Whole. And", False, ("Whole. And", True)),
        ("Whole. And", True, ("Whole.", True)),
        ("no end", True, ("", False)),
    ],
)
def test_cut_answers_end_at_a_sentence(text: str, cut: bool, kept: tuple[str, bool]) -> None:
    """A cut answer keeps its whole sentences; without one it is no answer."""
    assert whole_sentences(text, cut=cut) == kept
