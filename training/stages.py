"""The stages, wired: what each reads, what it writes, and when it is up to date.

    prompts   pairs, ordinary, policy, imports -> prompts.jsonl
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
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from guard.policy.load import load_policy
from guard.policy.model import Policy, Ruling, digest
from training.collect import collect
from training.endpoint import Cache, ask_all
from training.errors import DataError, RecipeError
from training.evaluate import GSM8K_TOKENS, Sampler, as_markdown, ask_set, measure, report_json
from training.evaluation_sets import Item, load_set
from training.export import export
from training.files import (
    file_digest,
    manifest_key,
    read_rows,
    write_json,
    write_manifest,
    write_rows,
    write_whole,
)
from training.generate import generate
from training.intervals import Share
from training.judge import judge
from training.local import LocalModel
from training.recipe import Endpoint, Recipe
from training.records import Completion, Example, Judgement, Prompt, user
from training.refusal_grader import load_grader
from training.select import select
from training.written import load_answers, own_prompts, write_completions


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def __call__(self, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a bar over ``total`` things; what is yielded is called with how many were finished."""


class Stage(NamedTuple):
    """One stage: its work, its settings in the recipe, its inputs and its output in the run's folder."""

    work: Callable[[Recipe, Policy, Progress], dict[str, Any]]
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str


def prompts_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Gather the prompts."""
    rows, counts = collect(recipe.prompts, policy, recipe.data_dir)
    write_rows(recipe.run_dir / "prompts.jsonl", rows)
    return counts


def generate_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Sample deliberations from the teacher, or write them from the labels."""
    prompts = [p for p in read_rows(recipe.run_dir / "prompts.jsonl", Prompt) if p.split == "train"]
    with Cache(recipe.run_dir / "cache.sqlite") as cache:
        if recipe.generate.mode == "written":
            book = load_answers(recipe.generate.answers)
            chosen = own_prompts(prompts, recipe.generate.own_answers)
            own = own_answers(recipe, chosen, cache, progress)
            completions, counts = write_completions(
                prompts, policy, book, own, recipe.generate.refusal_answers
            )
        else:
            endpoint = needed(recipe.teacher, "teacher", "generate")
            with progress(len(prompts)) as advance:
                completions, counts = generate(
                    recipe.generate, endpoint, cache, prompts, policy, lambda: advance(1)
                )
            counts["teacher"] = endpoint.model
    write_rows(recipe.run_dir / "completions.jsonl", completions)
    return {"mode": recipe.generate.mode, **counts}


OWN_BATCH = 32


def own_answers(recipe: Recipe, prompts: list[Prompt], cache: Cache, progress: Progress) -> dict[str, str]:
    """The untrained student's answers, by prompt id; sampled batch by batch and cached."""
    limit = recipe.generate.max_tokens
    keys = {p.id: digest([recipe.student, limit, [m.model_dump() for m in p.messages]]) for p in prompts}
    found = {p.id: answer for p in prompts if (answer := cache.get(keys[p.id])) is not None}
    missing = sorted(
        (p for p in prompts if p.id not in found), key=lambda p: sum(len(m.content) for m in p.messages)
    )
    if missing:
        model = LocalModel(recipe.student)
        with progress(len(missing)) as advance:
            for start in range(0, len(missing), OWN_BATCH):
                chunk = missing[start : start + OWN_BATCH]
                turns = model.complete([p.messages for p in chunk], max_tokens=limit, batch=OWN_BATCH)
                for prompt, turn in zip(chunk, turns, strict=True):
                    found[prompt.id] = turn.text if turn.finished else whole(turn.text)
                    cache.put(keys[prompt.id], found[prompt.id])
                advance(len(chunk))
    return {name: answer for name, answer in found.items() if answer.strip()}


def whole(text: str) -> str:
    """A cut answer up to its last whole sentence or line; empty where there is none."""
    end = max(text.rfind(mark) for mark in (". ", ".\n", "! ", "? ", "\n"))
    return text[: end + 1].rstrip() if end > 0 else ""


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


def evaluate_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Measure the student before and after."""
    settings = recipe.evaluate
    out = recipe.run_dir / "evaluation"
    sets: dict[str, list[Item]] = {}
    counts: dict[str, str] = {}
    for name in settings.sets:
        items, children = _items(name, recipe)
        drawn = sorted(items, key=lambda item: digest([recipe.seed, item.id]))[: settings.limits.get(name)]
        sets[name] = sorted(drawn, key=lambda item: items.index(item))
        counts[name] = f"{len(drawn)} of {len(items)} prompts; {children} that concern children left out."
    grader = load_grader(recipe.data_dir)
    notes = [
        f"Student: {recipe.export.base}; policy {policy.digest[:12]}; greedy decoding.",
        grader.describe(),
    ]
    results: dict[str, dict[str, dict[str, Share]]] = {}
    for model in settings.models:
        sampler = _sampler(model, recipe, progress)
        for set_name, items in sets.items():
            tokens = max(settings.max_tokens, GSM8K_TOKENS) if set_name == "gsm8k" else settings.max_tokens
            turns = ask_set(items, sampler, out / model / f"{set_name}.jsonl", tokens)
            results.setdefault(model, {})[set_name] = measure(turns, policy, grader, settings.resamples)
            write_whole(out / "report.md", as_markdown(results, counts, notes).encode())
            write_json(out / "report.json", report_json(results))
    return {"models": list(settings.models), "sets": counts}


def _items(name: str, recipe: Recipe) -> tuple[list[Item], int]:
    if name != "validation":
        return load_set(name, recipe.data_dir)
    prompts = read_rows(recipe.run_dir / "prompts.jsonl", Prompt)
    held_out = [p for p in prompts if p.split == "validation" and p.ruling is not Ruling.SAFE_COMPLETE]
    return [Item(name, p.id, p.text, p.ruling is Ruling.REFUSE, p.section or "") for p in held_out], 0


def _sampler(name: str, recipe: Recipe, progress: Progress) -> Sampler:
    """What answers for a model; its weights are loaded when the first set needs them."""
    settings = recipe.evaluate
    loaded: list[LocalModel] = []

    def local(items: Sequence[Item], max_tokens: int) -> list[str]:
        if not loaded:
            loaded.append(_checkpoint(name, recipe))
        with progress(len(items)) as advance:
            turns = loaded[0].complete(
                [user(item.prompt) for item in items],
                max_tokens=max_tokens,
                batch=settings.batch,
                advance=advance,
            )
        return [turn.text for turn in turns]

    def remote(items: Sequence[Item], max_tokens: int) -> list[str]:
        endpoint = needed(settings.endpoint, "evaluate.endpoint", "evaluate")
        bodies = [
            {
                "messages": [{"role": "user", "content": i.prompt}],
                "max_tokens": max_tokens,
                "temperature": 0.0,
            }
            for i in items
        ]
        with Cache(recipe.run_dir / "cache.sqlite") as cache, progress(len(items)) as advance:
            replies = ask_all(endpoint, cache, bodies, lambda: advance(1))
        return [choices[0].text if choices else "" for choices in replies]

    return remote if name == "endpoint" else local


def _checkpoint(name: str, recipe: Recipe) -> LocalModel:
    if name == "base":
        return LocalModel(recipe.student)
    trained = recipe.run_dir / name / "model"
    if not trained.exists():
        raise DataError(f"{trained} does not exist; did stage {name} run?")
    if (trained / "adapter_config.json").exists():
        return LocalModel(recipe.student, adapter=trained)
    return LocalModel(str(trained))


def export_stage(recipe: Recipe, policy: Policy, progress: Progress) -> dict[str, Any]:
    """Write what is served."""
    facts = export(recipe, policy)
    write_json(recipe.run_dir / "exported.json", facts)
    return facts


def needed(endpoint: Endpoint | None, table: str, stage: str) -> Endpoint:
    """An endpoint that a stage cannot do without.

    Raises:
        RecipeError: The recipe has no such table.
    """
    if endpoint is None:
        raise RecipeError("recipe", [f"stage {stage} needs an endpoint: add a [{table}] table"])
    return endpoint


STAGES: dict[str, Stage] = {
    "prompts": Stage(prompts_stage, ("prompts", "data_dir"), (), "prompts.jsonl"),
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
        evaluate_stage, ("evaluate", "student", "seed"), ("sft/model", "rl/model"), "evaluation/report.json"
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
    return [name for name in STAGES if name not in absent]


def stage_key(name: str, recipe: Recipe, policy: Policy) -> str:
    """Digest of all that a stage's output depends on."""
    stage = STAGES[name]
    settings = recipe.model_dump(mode="json", include=set(stage.settings))
    inputs: dict[str, str] = {}
    for item in stage.inputs:
        path = recipe.run_dir / item
        if path.exists():
            inputs[item] = file_digest(path)
    sources: dict[str, str] = {}
    if name == "prompts":
        for source in (recipe.prompts.pairs, recipe.prompts.ordinary):
            if source is not None and source.exists():
                sources[source.name] = file_digest(source)
    return digest([name, policy.digest, settings, inputs, sources])


def up_to_date(name: str, recipe: Recipe, policy: Policy) -> bool:
    """Whether a stage's output is there and nothing it depends on has changed."""
    there = (recipe.run_dir / STAGES[name].output).exists()
    return there and manifest_key(recipe.run_dir, name) == stage_key(name, recipe, policy)


def run_stage(name: str, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Do one stage and write its manifest; its facts."""
    policy = load_policy(recipe.policy)
    started = time.time()
    key = stage_key(name, recipe, policy)
    facts = STAGES[name].work(recipe, policy, progress)
    inputs = {
        item: file_digest(recipe.run_dir / item)
        for item in STAGES[name].inputs
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
