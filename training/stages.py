"""The stages, wired: what each reads, what it writes, and when it is up to date.

    prompts   pairs, ordinary, policy, imports -> prompts.jsonl (and what [writer] writes, where asked to)
    generate  prompts.jsonl                    -> completions.jsonl
    judge     prompts, completions             -> judgements.jsonl (where the filter requires it)
    filter    prompts, completions, judgements -> examples.jsonl
    sft       examples.jsonl                   -> sft/model
    rl        prompts.jsonl, sft/model         -> rl/model (where the recipe has [rl])
    evaluate  evaluation sets, sft/model       -> evaluation/report.json
    export    sft/model, report, manifests     -> the folder that is served

Every stage writes ``manifests/<stage>.json`` with a key over its settings and the digests of its inputs;
``run`` leaves out stages whose key has not changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from guard.policy.load import load_policy
from guard.policy.model import Policy, digest
from training.collect import collect, read_pairs
from training.endpoint import Cache, needed
from training.errors import RecipeError
from training.evaluate import evaluate
from training.export import export
from training.files import (
    file_digest,
    manifest_key,
    manifest_path,
    read_rows,
    write_json,
    write_manifest,
    write_rows,
)
from training.generate import generate
from training.judge import judge
from training.own_answers import own_answers
from training.progress import Progress
from training.recipe import Recipe
from training.records import Completion, Example, Judgement, Prompt
from training.seeded import Pair, requests, write_pairs
from training.select import select
from training.written import load_answers, own_prompts, write_completions


class Stage(NamedTuple):
    """One stage: its work, its settings in the recipe, its inputs and its output in the run's folder."""

    work: Callable[[Recipe, Policy, Progress], dict[str, Any]]
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str


def prompts_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Gather the prompts, and have a model write more where the recipe says so."""
    settings = recipe.prompts
    pairs: list[Pair] = []
    seeded: dict[str, Any] = {}
    if settings.seeded is not None:
        writer = needed(recipe.writer, "writer", "prompts")
        written = read_pairs(settings.pairs, policy, settings.validation) if settings.pairs else ()
        asked = requests(settings.seeded, policy, [p for p in written if p.split == "train"])
        with Cache(recipe.run_dir / "cache.sqlite") as cache, progress(len(asked)) as advance:
            pairs, seeded = write_pairs(writer, cache, asked, lambda: advance(1))
    rows, counts = collect(settings, policy, recipe.data_dir, pairs)
    write_rows(recipe.run_dir / "prompts.jsonl", rows)
    return {**counts, "seeded": seeded} if seeded else counts


def generate_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Sample deliberations from the teacher, or write them from the labels."""
    prompts = [p for p in read_rows(recipe.run_dir / "prompts.jsonl", Prompt) if p.split == "train"]
    with Cache(recipe.run_dir / "cache.sqlite") as cache:
        if recipe.generate.mode == "written":
            book = load_answers(recipe.generate.answers)
            chosen = own_prompts(prompts, recipe.generate.own_answers)
            own = own_answers(recipe, chosen, cache, progress)
            completions, counts = write_completions(prompts, policy, book, own, recipe.generate.book_answers)
        else:
            endpoint = needed(recipe.teacher, "teacher", "generate")
            with progress(len(prompts)) as advance:
                completions, counts = generate(
                    recipe.generate, endpoint, cache, prompts, policy, lambda: advance(1)
                )
            counts["teacher"] = endpoint.model
    write_rows(recipe.run_dir / "completions.jsonl", completions)
    return {"mode": recipe.generate.mode, **counts}


def judge_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Have every completion graded."""
    run = recipe.run_dir
    endpoint = needed(recipe.judge_endpoint, "judge_endpoint", "judge")
    prompts = read_rows(run / "prompts.jsonl", Prompt)
    completions = read_rows(run / "completions.jsonl", Completion)
    with Cache(run / "cache.sqlite") as cache, progress(len(completions)) as advance:
        judgements, counts = judge(
            recipe.judge, endpoint, cache, prompts, completions, policy, lambda: advance(1)
        )
    write_rows(run / "judgements.jsonl", judgements)
    return counts


def filter_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Keep what may be trained on."""
    run = recipe.run_dir
    prompts = read_rows(run / "prompts.jsonl", Prompt)
    completions = read_rows(run / "completions.jsonl", Completion)
    judgements: dict[tuple[str, int], Judgement] = {}
    if recipe.filter.require_judge:
        rows = read_rows(run / "judgements.jsonl", Judgement)
        judgements = {(row.prompt, row.sample): row for row in rows}
    examples, counts = select(prompts, completions, judgements, policy, recipe.filter)
    write_rows(run / "examples.jsonl", examples)
    return counts


def sft_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Fine-tune the student."""
    from training.sft import train

    examples = read_rows(recipe.run_dir / "examples.jsonl", Example)
    return train(recipe, examples, policy, recipe.run_dir / "sft")


def rl_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Reinforce what the reward functions ask for."""
    from training.grpo import endpoint_judge, reinforce

    if recipe.rl is None:
        raise RecipeError("recipe", ["stage rl needs an [rl] table"])
    prompts = read_rows(recipe.run_dir / "prompts.jsonl", Prompt)
    with Cache(recipe.run_dir / "cache.sqlite") as cache:
        grader = None
        if recipe.rl.judge:
            grader = endpoint_judge(needed(recipe.judge_endpoint, "judge_endpoint", "rl"), cache, policy)
        return reinforce(recipe, recipe.rl, prompts, policy, grader)


def export_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Write what is served."""
    facts = export(recipe, policy)
    write_json(recipe.run_dir / "exported.json", facts)
    return facts


STAGES: dict[str, Stage] = {
    "prompts": Stage(prompts_stage, ("prompts", "data_dir", "writer"), (), "prompts.jsonl"),
    "generate": Stage(
        generate_stage, ("generate", "teacher", "student"), ("prompts.jsonl",), "completions.jsonl"
    ),
    "judge": Stage(
        judge_stage, ("judge", "judge_endpoint"), ("prompts.jsonl", "completions.jsonl"), "judgements.jsonl"
    ),
    "filter": Stage(
        filter_stage,
        ("filter",),
        ("prompts.jsonl", "completions.jsonl", "judgements.jsonl"),
        "examples.jsonl",
    ),
    "sft": Stage(sft_stage, ("sft", "student", "seed"), ("examples.jsonl",), "sft/model"),
    "rl": Stage(rl_stage, ("rl", "student", "seed"), ("prompts.jsonl", "sft/model"), "rl/model"),
    "evaluate": Stage(
        evaluate, ("evaluate", "student", "seed"), ("sft/model", "rl/model"), "evaluation/report.json"
    ),
    "export": Stage(
        export_stage, ("export",), ("sft/model", "rl/model", "evaluation/report.json"), "exported.json"
    ),
}


def stages_of(recipe: Recipe) -> list[str]:
    """The stages that this recipe has, in order."""
    absent = set()
    if not recipe.filter.require_judge:
        absent.add("judge")
    if recipe.rl is None:
        absent.add("rl")
    elif recipe.rl.start == "student":
        absent |= {"generate", "judge", "filter", "sft"}
    return [name for name in STAGES if name not in absent]


def inputs_of(name: str, recipe: Recipe) -> tuple[str, ...]:
    """What a stage reads in the run's folder; the set ``validation`` is made of the prompts."""
    validated = name == "evaluate" and "validation" in recipe.evaluate.sets
    return (*STAGES[name].inputs, "prompts.jsonl") if validated else STAGES[name].inputs


def stage_key(name: str, recipe: Recipe, policy: Policy) -> str:
    """Digest of all that a stage's output depends on."""
    stage = STAGES[name]
    settings = recipe.model_dump(mode="json", include=set(stage.settings))
    inputs: dict[str, str] = {}
    for item in inputs_of(name, recipe):
        path = recipe.run_dir / item
        if path.exists():
            inputs[item] = file_digest(path)
    sources: dict[str, str] = {}
    if name == "prompts":
        carriers = recipe.prompts.carriers if recipe.prompts.variants else None
        read = (recipe.prompts.pairs, recipe.prompts.rl_pairs, recipe.prompts.ordinary, carriers)
        for source in read:
            if source is not None and source.exists():
                sources[source.name] = file_digest(source)
    answers = recipe.generate.answers
    if name == "generate" and recipe.generate.mode == "written" and answers.exists():
        sources[answers.name] = file_digest(answers)
    return digest([name, policy.digest, settings, inputs, sources])


def up_to_date(name: str, recipe: Recipe, policy: Policy) -> bool:
    """Whether a stage's output is there and nothing it depends on has changed."""
    there = (recipe.run_dir / STAGES[name].output).exists()
    return there and manifest_key(recipe.run_dir, name) == stage_key(name, recipe, policy)


def run_stage(name: str, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Do one stage and write its manifest; its facts.

    An older manifest is removed first, so that a stage that fails is not up to date by what it left.
    """
    policy = load_policy(recipe.policy)
    started = time.time()
    key = stage_key(name, recipe, policy)
    manifest_path(recipe.run_dir, name).unlink(missing_ok=True)
    facts = STAGES[name].work(recipe, policy, progress)
    inputs = {
        item: file_digest(recipe.run_dir / item)
        for item in inputs_of(name, recipe)
        if (recipe.run_dir / item).is_file()
    }
    write_manifest(
        recipe.run_dir,
        name,
        key=key,
        started=started,
        facts={
            "recipe": recipe.name,
            "recipe_digest": recipe.digest(),
            "policy_digest": policy.digest,
            "seed": recipe.seed,
            "inputs": inputs,
            **facts,
        },
    )
    return facts
