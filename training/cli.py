"""The command line: one command a stage, each with a progress bar and a short result.

python -m training prompts recipe.toml
python -m training run recipe.toml
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from guard.errors import PolicyError
from guard.policy.load import load_policy
from training import flip_rate, judge_accuracy
from training.endpoint import Cache
from training.errors import TrainingError
from training.export import merge
from training.files import read_rows
from training.labelled import LABELLED_SETS, load_labelled
from training.recipe import Endpoint
from training.recipe_file import load_recipe
from training.records import Prompt, Split
from training.refusal_grader import load_grader
from training.stages import run_stage, stages_of, up_to_date

app = typer.Typer(
    name="training",
    help="Deliberative alignment, stage by stage; each stage reads what the stages before it wrote.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console(stderr=True)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The run's recipe.toml.")]
Url = Annotated[str, typer.Option(help="An OpenAI-compatible endpoint, up to and including /v1.")]
Model = Annotated[str, typer.Option(help="The model's name there.")]
KeyVariable = Annotated[str, typer.Option(help="The environment variable that holds the API key.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests in flight.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds that one reply may take.")]
CachePath = Annotated[Path, typer.Option(help="Where replies are kept: a run that was cut off goes on.")]
DataDir = Annotated[Path, typer.Option(help="The folder of the public sets.", envvar="DATA_DIR")]
Seed = Annotated[int, typer.Option(help="Of the draw.")]


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=total == 0) as bars:
        task = bars.add_task("", total=total)
        yield lambda count: bars.advance(task, count)


def _stage(name: str, recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    console.print(f"[bold]{name}[/bold] ({recipe.name})")
    facts = run_stage(name, recipe, progress)
    _tell(facts)


def _tell(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        console.print(f"  {key}: {value}", highlight=False, markup=False)


@app.command()
def prompts(recipe: RecipePath) -> None:
    """Gather categorised prompts; keep every evaluation set out."""
    _stage("prompts", recipe)


@app.command()
def generate(recipe: RecipePath) -> None:
    """Sample deliberations with the policy section in context (or write them from labels)."""
    _stage("generate", recipe)


@app.command()
def judge(recipe: RecipePath) -> None:
    """Have every completion graded by the judge, k times."""
    _stage("judge", recipe)


@app.command("filter")
def filter_(recipe: RecipePath) -> None:
    """Keep completions whose citations, verdict, answer and score hold; count every drop."""
    _stage("filter", recipe)


@app.command()
def sft(recipe: RecipePath) -> None:
    """Fine-tune the student on prompts without the policy."""
    _stage("sft", recipe)


@app.command()
def rl(recipe: RecipePath) -> None:
    """Reinforce the fine-tuned student with rewards on its answers."""
    _stage("rl", recipe)


@app.command()
def evaluate(recipe: RecipePath) -> None:
    """Measure refusal, over-refusal, citations and capability, before and after."""
    _stage("evaluate", recipe)


@app.command("export")
def export_(recipe: RecipePath) -> None:
    """Write adapter, card and report into the folder that is served."""
    _stage("export", recipe)


@app.command("merge")
def merge_(
    base: Annotated[str, typer.Argument(help="The base checkpoint's folder or public name.")],
    adapter: Annotated[Path, typer.Argument(help="The exported folder.")],
    out: Annotated[Path, typer.Argument(help="Where the merged checkpoint goes.")],
) -> None:
    """Write base and adapter as one checkpoint."""
    merge(base, adapter, out)


@app.command()
def run(
    recipe: RecipePath,
    force: Annotated[bool, typer.Option(help="Do stages again that are up to date.")] = False,
    until: Annotated[str, typer.Option(help="Stop after this stage.")] = "",
) -> None:
    """Do every stage of the recipe that is not up to date, in order."""
    loaded = load_recipe(recipe)
    policy = load_policy(loaded.policy)
    stages = stages_of(loaded)
    if until and until not in stages:
        raise TrainingError(f"--until {until}: the recipe's stages are {', '.join(stages)}")
    for name in stages:
        if not force and up_to_date(name, loaded, policy):
            console.print(f"[bold]{name}[/bold] is up to date")
        else:
            _stage(name, recipe)
        if name == until:
            break


@app.command("judge-accuracy")
def judge_accuracy_(
    url: Url,
    model: Model,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help=f"{', '.join(LABELLED_SETS)}; all if absent."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Labels drawn of each set; all if absent.")
    ] = None,
    seed: Seed = 0,
    key_variable: KeyVariable = "",
    concurrency: Concurrency = 64,
    timeout: Timeout = 600.0,
    data_dir: DataDir = Path("../shared/data"),
    cache: CachePath = Path("runs/judge-accuracy.sqlite"),
) -> None:
    """Measure a judge endpoint against human labels: agreement by set and label, with intervals."""
    endpoint = _endpoint(url, model, key_variable, concurrency, timeout)
    for name in set_ or LABELLED_SETS:
        labelled, children = load_labelled(name, data_dir)
        rows = judge_accuracy.draw(labelled, sample, seed)
        with Cache(cache) as replies, progress(len(rows)) as advance:
            found = judge_accuracy.judge_accuracy(endpoint, replies, rows, lambda: advance(1))
        typer.echo(judge_accuracy.describe(found, children) + "\n")


@app.command("flip-rate")
def flip_rate_(
    prompts_path: Annotated[Path, typer.Argument(metavar="PROMPTS", help="prompts.jsonl of a run.")],
    url: Url,
    model: Model,
    split: Annotated[Split, typer.Option(help="Which of its rows.")] = "validation",
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts drawn; all if absent.")] = None,
    seed: Seed = 0,
    policy: Annotated[Path, typer.Option(help="The policy's folder.")] = Path("specs/default"),
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a reply, thinking included.")] = 260,
    key_variable: KeyVariable = "",
    concurrency: Concurrency = 64,
    timeout: Timeout = 600.0,
    data_dir: DataDir = Path("../shared/data"),
    cache: CachePath = Path("runs/flip-rate.sqlite"),
) -> None:
    """Measure whether a base model follows the policy when it has it in context."""
    endpoint = _endpoint(url, model, key_variable, concurrency, timeout)
    rows = [p for p in read_rows(prompts_path, Prompt) if p.split == split and p.variant == "plain"]
    drawn = flip_rate.draw(rows, limit, seed)
    grader = load_grader(data_dir)
    with Cache(cache) as replies, progress(2 * len(drawn)) as advance:
        found = flip_rate.flip_rate(
            endpoint, replies, drawn, load_policy(policy), grader, max_tokens, lambda: advance(1)
        )
    typer.echo(flip_rate.describe(found, [f"{len(drawn)} prompts of {prompts_path}.", grader.describe()]))


def _endpoint(url: str, model: str, key_variable: str, concurrency: int, timeout: float) -> Endpoint:
    return Endpoint(
        url=url, model=model, key_variable=key_variable, concurrency=concurrency, timeout_seconds=timeout
    )


def main() -> None:
    """Run a command; errors raised on purpose end with one message and status 2."""
    try:
        app()
    except (TrainingError, PolicyError) as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        sys.exit(2)
