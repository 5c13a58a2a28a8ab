"""What the untrained student answers by itself, sampled in batches and cached.

What is no help is not taught: such a prompt keeps its thinking and loses the answer.
"""

from __future__ import annotations

from guard.deliberation.style import AnswerStyle, answer_style
from guard.policy.model import digest
from training.endpoint import Cache
from training.evasion import helps_nobody
from training.local import LocalModel
from training.progress import Progress
from training.recipe import Recipe
from training.records import Prompt


def own_answers(recipe: Recipe, prompts: list[Prompt], cache: Cache, progress: Progress) -> dict[str, str]:
    """The untrained student's answers that help, by prompt id; sampled batch by batch and cached."""
    limit, batch = recipe.generate.max_tokens, recipe.generate.batch
    keys = {p.id: digest([recipe.student, limit, [m.model_dump() for m in p.messages]]) for p in prompts}
    found = {p.id: answer for p in prompts if (answer := cache.get(keys[p.id])) is not None}
    missing = sorted(
        (p for p in prompts if p.id not in found), key=lambda p: sum(len(m.content) for m in p.messages)
    )
    if missing:
        model = LocalModel(recipe.student)
        with progress(len(missing)) as advance:
            for start in range(0, len(missing), batch):
                chunk = missing[start : start + batch]
                turns = model.complete([p.messages for p in chunk], max_tokens=limit, batch=batch)
                for prompt, turn in zip(chunk, turns, strict=True):
                    found[prompt.id] = turn.text if turn.finished else whole(turn.text)
                    cache.put(keys[prompt.id], found[prompt.id])
                advance(len(chunk))
    return {name: answer for name, answer in found.items() if helps(answer)}


def helps(answer: str) -> bool:
    """Whether an answer is one to an allowed request: no refusal, no excuse, no loop.

    >>> helps("Aim for the corners."), helps("I'm sorry, but I can't help with that."), helps("no " * 9)
    (True, False, False)
    """
    return answer_style(answer) is AnswerStyle.ANSWER and not helps_nobody(answer)


def whole(text: str) -> str:
    """A cut answer up to its last whole sentence or line; empty where there is none."""
    end = max(text.rfind(mark) for mark in (". ", ".\n", "! ", "? ", "\n"))
    return text[: end + 1].rstrip() if end > 0 else ""
