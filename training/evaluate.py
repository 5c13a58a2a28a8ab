"""Stage ``evaluate``: the student before and after, on sets that nothing was trained on or tuned to.

Each prompt is sent as a client would send it; where the recipe asks for the 2 x 2, once more with the
retrieved policy before it. Every turn is kept in ``evaluation/<model>/<set>.jsonl``; a set that was done
with the same model and limit is not asked again. A grader endpoint, where the recipe names one, grades
some sets' answers (``<set>.grades.jsonl``). Reads the checkpoint of the base and those of the run, or asks
endpoints. Writes ``evaluation/report.json``, ``report.md`` and ``report.html``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from guard.policy.model import Policy, Ruling, digest
from training import rubric_grader
from training.endpoint import Cache, address_digest
from training.evaluation_sets import Loaded, load_set
from training.evasion import describe_excuses
from training.files import read_rows, write_json, write_rows, write_whole
from training.graded_measures import with_grades
from training.measures import Graders, Measure, measure
from training.policy_context import PolicyContext
from training.progress import Progress
from training.recipe import Endpoint, Recipe
from training.records import Item, Prompt, Turn
from training.refusal_grader import load_grader
from training.report import Report, as_html, as_json, as_markdown
from training.rubric_grader import RUBRICS, Grade
from training.samplers import Sampler, asked_of, sampler
from training.style_grader import load_style_grader

LEAST_TOKENS = {"gsm8k": 512, "ifeval": 400, "strongreject-encodings": 320}
"""Sets whose answers need more than a decision and its reason, or whose thinking repeats words that are many
tokens once encoded."""
WITH_POLICY = "+policy"
"""What a model is called with the policy in its prompt."""


def evaluate(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Ask every model every set, measure, write the report; the facts for the manifest."""
    settings = recipe.evaluate
    out = recipe.run_dir / "evaluation"
    sets: dict[str, list[Item]] = {}
    counts: dict[str, str] = {}
    for chosen in settings.sets:
        loaded = _load(chosen, recipe)
        sets[chosen] = draw(loaded.items, settings.limits.get(chosen), recipe.seed)
        counts[chosen] = _count(sets[chosen], loaded)
    refusals = load_grader(recipe.data_dir)
    style = load_style_grader(recipe.data_dir) if "rbr-style" in sets else None
    graders = Graders(refusals, refusals.agreement, style)
    notes = [
        f"Student: {recipe.export.base}; policy {policy.digest[:12]}; greedy decoding.",
        refusals.describe(),
        describe_excuses(recipe.data_dir),
        *([rubric_grader.describe(settings.grader)] if settings.grader else []),
        *([style.describe()] if style else []),
        "Graders were measured on other models' answers than the ones graded here; intervals are 95 % "
        "bootstrap intervals over prompts and do not hold the graders' errors.",
    ]
    context = PolicyContext(policy) if settings.with_policy else None
    results: dict[str, dict[str, dict[str, Measure]]] = {}
    for model in settings.models:
        answers = sampler(model, recipe, progress)
        asked = asked_of(model, recipe)
        for name, items in sets.items():
            columns: dict[str, PolicyContext | None] = {model: None}
            if name in settings.with_policy and model != "guard":
                columns[model + WITH_POLICY] = context
            for column, before in columns.items():
                forget(out / column, asked)
                tokens = max(settings.max_tokens, LEAST_TOKENS.get(name, 0))
                forget_limit(out / column, name, tokens)
                turns = ask_set(items, answers, out / column / f"{name}.jsonl", tokens, before)
                found = measure(turns, policy, graders, settings.resamples)
                if settings.grader is not None and name in RUBRICS:
                    rubric, named = RUBRICS[name], settings.grader.model
                    kept = out / column / f"{name}.grades.jsonl"
                    grades = grade_set(name, settings.grader, items, turns, kept, progress)
                    found = with_grades(found, rubric, named, items, grades, settings.resamples)
                results.setdefault(column, {})[name] = found
            report = Report(results, counts, notes)
            write_whole(out / "report.md", as_markdown(report).encode())
            write_json(out / "report.json", as_json(report))
    write_whole(out / "report.html", as_html(Report(results, counts, notes)).encode())
    return {"models": list(results), "sets": counts}


def ask_set(
    items: Sequence[Item],
    answers: Sampler,
    path: Path,
    max_tokens: int,
    context: PolicyContext | None = None,
) -> list[Turn]:
    """The turns of one set, from ``path`` where the same conversations were asked before.

    Only the texts are taken from there: labels are those that the items have now.
    """
    conversations = [context.given(item.conversation) if context else item.conversation for item in items]
    kept = read_rows(path, Turn) if path.is_file() else []
    if [turn.conversation for turn in kept] == conversations:
        texts = [turn.text for turn in kept]
    else:
        texts = answers(conversations, max_tokens)
    turns = [
        Turn(**{**dict(item), "before": before, "prompt": last.content}, text=text)
        for item, (*before, last), text in zip(items, conversations, texts, strict=True)
    ]
    write_rows(path, turns)
    return turns


def grade_set(
    name: str,
    grader: Endpoint,
    items: Sequence[Item],
    turns: Sequence[Turn],
    path: Path,
    progress: Progress,
) -> list[Grade]:
    """The grades of one set's turns, also written to ``path``; the grader is never asked the same again."""
    rubric = RUBRICS[name]
    replies = path.parents[1] / f"grader-{address_digest(grader)}.sqlite"
    texts = [turn.text for turn in turns]
    with Cache(replies) as cache, progress(len(items) * (1 + len(rubric.grades))) as advance:
        grades = rubric_grader.grade(rubric, grader, cache, items, texts, lambda: advance(1))
    write_rows(path, grades)
    return grades


def forget(folder: Path, model: str) -> None:
    """Remove the turns of another model than ``model`` (a digest), such as an earlier checkpoint."""
    known = folder / "model.txt"
    if not known.is_file() or known.read_text(encoding="utf-8") != model:
        for path in folder.glob("*.jsonl"):
            path.unlink()
        write_whole(known, model.encode())


def forget_limit(folder: Path, name: str, tokens: int) -> None:
    """Remove the turns of one set that were cut at another limit than ``tokens``.

    Args:
        folder: Of a model's turns; ``limits.json`` there holds the limit of each set.
        name: The set.
        tokens: Its limit now.
    """
    known = folder / "limits.json"
    limits = orjson.loads(known.read_bytes()) if known.is_file() else {}
    if limits.get(name) != tokens:
        (folder / f"{name}.jsonl").unlink(missing_ok=True)
        write_json(known, {**limits, name: tokens})


def draw(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """A fixed draw of ``limit`` prompts in their order, each with all of its forms; all where it is None."""
    groups = dict.fromkeys(item.group or item.id for item in items)
    drawn = set(sorted(groups, key=lambda group: digest([seed, group]))[:limit])
    return [item for item in items if (item.group or item.id) in drawn]


def _count(drawn: Sequence[Item], loaded: Loaded) -> str:
    prompts, of = (len({item.group or item.id for item in items}) for items in (drawn, loaded.items))
    forms = f" in {len(drawn)} forms" if len(drawn) != prompts else ""
    return (
        f"{prompts} of {of} prompts{forms}; {loaded.children} that concern children left out. {loaded.note}"
    ).rstrip()


def _load(name: str, recipe: Recipe) -> Loaded:
    if name != "validation":
        return load_set(name, recipe.data_dir)
    prompts = read_rows(recipe.run_dir / "prompts.jsonl", Prompt)
    items = [
        Item(
            set=name,
            id=p.id,
            prompt=p.text,
            harmful=p.ruling is Ruling.REFUSE,
            category=p.section or "",
        )
        for p in prompts
        if p.split == "validation" and p.ruling is not Ruling.SAFE_COMPLETE
    ]
    return Loaded(items, 0, "The held-out pairs.")
