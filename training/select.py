"""Stage ``filter``: which completions become training rows, and why each of the others does not.

Rules come first (form, verdict, citations, agreement of answer and verdict, leaks of the policy into
the answer), then the judge's minimum. The best sample of each prompt is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from guard.deliberation.deliberation import read_deliberation
from guard.deliberation.style import AnswerStyle, agrees, answer_style
from guard.policy.model import Policy, Ruling
from training.deliberate import shows_deliberation
from training.evasion import evades
from training.loops import loops
from training.recipe import Filter
from training.records import Completion, Example, Judgement, Prompt

_LEAKS = ("the policy", "this clause", "the section", "clause that decides")


def reason_to_drop(prompt: Prompt, completion: Completion, policy: Policy, settings: Filter) -> str | None:
    """The first rule that a completion breaks; None where it breaks none."""
    answer = completion.answer
    if not completion.closed:
        return "malformed"
    if not answer and not completion.thinking_only:
        return "no answer"
    everything = frozenset(section.id for section in policy.sections)
    read = read_deliberation(completion.thinking, policy, given=everything)
    if read.verdict is None:
        return "no verdict"
    if prompt.ruling is not None and read.verdict is not prompt.ruling:
        return "verdict against the label"
    if read.findings:
        return f"finding: {read.findings[0].value}"
    cited = {citation.section for citation in read.citations}
    if prompt.section is not None and cited and prompt.section not in cited:
        return "cites another section than the label"
    if len(completion.thinking.split()) > settings.max_thinking_words:
        return "thinking too long"
    if completion.thinking_only:
        return None
    if len(answer.split()) > settings.max_answer_words:
        return "answer too long"
    style = answer_style(answer)
    if style is AnswerStyle.EMPTY or agrees(read.verdict, style) is False:
        return "answer against the verdict"
    if shows_deliberation(answer) or any(leak in answer.lower() for leak in _LEAKS):
        return "answer tells of the policy"
    if loops(answer):
        return "answer runs in a loop"
    if read.verdict is Ruling.COMPLY and evades(answer):
        return "answer excuses itself"
    return None


def select(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    judgements: Mapping[tuple[str, int], Judgement],
    policy: Policy,
    settings: Filter,
) -> tuple[list[Example], dict[str, Any]]:
    """The training rows, and the counts for the manifest.

    Args:
        prompts: The run's prompts.
        completions: Samples of them.
        judgements: By prompt and sample; empty where the recipe does without a judge.
        policy: What citations are checked against.
        settings: The thresholds.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    drops: Counter[str] = Counter()
    best: dict[str, tuple[float, Completion]] = {}
    for completion in completions:
        prompt = by_id.get(completion.prompt)
        if prompt is None:
            drops["of a prompt that is no longer there"] += 1
            continue
        reason = reason_to_drop(prompt, completion, policy, settings)
        score: float | None = None
        if reason is None and settings.require_judge:
            judgement = judgements.get((completion.prompt, completion.sample))
            score = judgement.score if judgement else None
            if score is None:
                reason = "unscored" if settings.unscored == "drop" else None
            elif score < settings.min_score:
                reason = "low score"
        if reason is not None:
            drops[reason] += 1
        elif prompt.id in best and best[prompt.id][0] >= (score or 0.0):
            drops["another sample is better"] += 1
        else:
            drops["another sample is better"] += prompt.id in best
            best[prompt.id] = (score or 0.0, completion)
    rows = [_example(by_id[name], completion, score) for name, (score, completion) in best.items()]
    counts = {
        "kept": len(rows),
        "dropped": {reason: count for reason, count in drops.items() if count},
        "kept_by_ruling": dict(Counter(r.ruling.value if r.ruling else "unknown" for r in rows)),
        "kept_by_source": dict(Counter(r.source for r in rows)),
        "thinking_only": sum(not r.answer for r in rows),
    }
    return rows, counts


def _example(prompt: Prompt, completion: Completion, score: float) -> Example:
    return Example(
        id=prompt.id,
        messages=prompt.messages,
        thinking=completion.thinking,
        answer=completion.answer,
        source=prompt.source,
        section=prompt.section,
        clause=prompt.clause,
        ruling=prompt.ruling,
        pair=prompt.pair,
        variant=prompt.variant,
        split=prompt.split,
        score=score or None,
    )
