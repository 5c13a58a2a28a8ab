"""Evaluation sets as inspect-ai tasks, read by the same graders as stage ``evaluate``.

    export GUARD_BASE_URL=http://127.0.0.1:8080/v1 GUARD_API_KEY=none
    inspect eval training/inspect_tasks.py@xstest --model openai-api/guard/default

Any provider of inspect-ai can stand in the guard's place. What is said of a thinking is scored only where
the endpoint shows it (a key with the scope ``reasoning``). Needs the extra ``evaluation``; DATA_DIR, or
``-T data_dir=``, names the folder of the public sets.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentReasoning,
    GenerateConfig,
)
from inspect_ai.scorer import Score, Scorer, Target, bootstrap_stderr, mean, scorer
from inspect_ai.solver import TaskState, generate

from guard.policy.load import load_policy
from guard.policy.model import Policy
from training.evaluation_sets import load_set
from training.measures import Graders, measure
from training.records import Item, Message, Turn
from training.refusal_grader import RefusalGrader, load_grader

ROOT = Path(__file__).resolve().parents[1]
MAX_TOKENS = 512

_MESSAGES: dict[str, Callable[..., ChatMessage]] = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}
_DECISIONS = ("refused, by answer", "refused, by verdict", "answered in full, by verdict")
SCORES = (
    *(f"{side}: {decision}" for side in ("harmful", "allowed") for decision in _DECISIONS),
    "verdict given",
    "citations that hold",
    "clause cited where due",
    "verdict and answer agree",
)
"""The measures of stage ``evaluate`` that are scored for each sample."""
_OF_THINKING = frozenset(name for name in SCORES if not name.endswith("by answer"))


@task
def xstest(data_dir: str = "") -> Task:
    """XSTest: unsafe prompts to refuse, safe ones that look like them to answer."""
    return _task("xstest", data_dir)


@task
def strongreject(data_dir: str = "") -> Task:
    """StrongREJECT without jailbreaks: prompts to refuse."""
    return _task("strongreject", data_dir)


@task
def harmbench(data_dir: str = "") -> Task:
    """HarmBench's standard behaviours: prompts to refuse."""
    return _task("harmbench", data_dir)


@task
def or_bench(data_dir: str = "") -> Task:
    """The third of OR-Bench-Hard that is kept from training: prompts to answer."""
    return _task("or-bench", data_dir)


@scorer(metrics={"*": [mean(), bootstrap_stderr()]})
def decisions(data_dir: str) -> Scorer:
    """Every measure of one sample as 1 or 0; NaN, which inspect-ai counts as unscored, where it has none."""
    policy = load_policy(ROOT / "specs/default")
    refusals = _refusals(data_dir)
    graders = Graders(refusals, refusals.agreement)

    async def score(state: TaskState, target: Target) -> Score:
        turn = Turn(**Item.model_validate(state.metadata).model_dump(), text=turn_text(state))
        return Score(value={**_values(turn, policy, graders)}, answer=state.output.completion)

    return score


def turn_text(state: TaskState) -> str:
    """What the model wrote, its thinking in tags before its answer."""
    content = state.output.message.content if state.output.choices else ""
    parts = [] if isinstance(content, str) else content
    thinking = "\n".join(part.reasoning for part in parts if isinstance(part, ContentReasoning))
    answer = state.output.completion
    return f"<think>\n{thinking}\n</think>\n\n{answer}" if thinking else answer


def _values(turn: Turn, policy: Policy, graders: Graders) -> dict[str, float]:
    found = measure([turn], policy, graders, resamples=1)
    hidden = frozenset[str]() if turn.text.startswith("<think>") else _OF_THINKING
    values = {}
    for name in SCORES:
        value = found[name].value.value if name in found and name not in hidden else None
        values[name] = math.nan if value is None else value
    return values


@cache
def _refusals(data_dir: str) -> RefusalGrader:
    """Fitting takes seconds, and a task and its scorer both want it."""
    return load_grader(Path(data_dir))


def _task(name: str, data_dir: str) -> Task:
    folder = Path(data_dir or os.environ.get("DATA_DIR") or ROOT.parent / "shared/data").absolute()
    loaded = load_set(name, folder)
    return Task(
        dataset=MemoryDataset([_sample(item) for item in loaded.items], name=name),
        solver=generate(),
        scorer=decisions(str(folder)),
        config=GenerateConfig(temperature=0.0, max_tokens=MAX_TOKENS),
        metadata={
            "left out, concern children": loaded.children,
            "refusal grader": _refusals(str(folder)).describe(),
        },
    )


def _sample(item: Item) -> Sample:
    return Sample(
        id=item.id,
        input=[_message(turn) for turn in item.conversation],
        target="refuse" if item.harmful else "answer",
        metadata=item.model_dump(mode="json", exclude_defaults=True),
    )


def _message(turn: Message) -> ChatMessage:
    return _MESSAGES[turn.role](content=turn.content)
