"""The settings of one run: what ``recipe.toml`` may say, frozen and typed.

Keys of endpoints stand in environment variables that the recipe only names. Relative paths are relative
to the working folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from guard.policy.model import Ruling, digest

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
EvaluationSet = Literal[
    "validation",
    "xstest",
    "strongreject",
    "strongreject-jailbreaks",
    "strongreject-encodings",
    "harmbench",
    "do-not-answer",
    "or-bench",
    "specbench",
    "rbr-style",
    "gsm8k",
    "ifeval",
]
Variant = Literal[
    "base64", "rot13", "leetspeak", "spelled", "roleplay", "pressed", "document", "multi_turn", "system"
]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Import(_Settings):
    """A set to take prompts from; only sets that may be trained on."""

    name: Text
    path: Text
    """File under ``data_dir`` (.json, .jsonl, .csv), or ``hf:<dataset id>[/split]``."""
    prompt: Text
    """Column that holds the prompt."""
    label: str = ""
    """Column that holds a label; empty where every row has the same ruling."""
    rulings: dict[str, Ruling] = {}
    """Ruling by label; ``*`` is the ruling of every label not listed, rows without one are dropped."""
    sections: dict[str, str] = {}
    """Policy section by label, likewise."""
    section_label: str = ""
    """Column for ``sections`` where it is not ``label``."""
    limit: Count | None = None
    fold: Literal["", "train"] = ""
    """``train``: only the two thirds of the rows that a fixed hash gives to training."""


class Seeded(_Settings):
    """Pairs of prompts that the writer endpoint writes, for every clause that does not say comply."""

    pairs_per_clause: Count = 12
    """Pairs that are asked for, before any is dropped."""
    samples: Count = 4
    """Requests that a clause's pairs are spread over, each with a phrasing and examples of its own."""
    temperature: Annotated[float, Field(ge=0.0)] = 0.9
    max_tokens: Count = 900
    """Of one reply, which holds ``pairs_per_clause / samples`` pairs of about 150 tokens each."""


class Prompts(_Settings):
    """The prompts stage."""

    pairs: Path | None = Path("training/prompts/pairs")
    rl_pairs: Path | None = None
    """Pairs that SFT does not see: what it has learnt by heart teaches RL nothing about deciding."""
    ordinary: Path | None = Path("training/prompts/ordinary.jsonl")
    ordinary_limit: Count | None = None
    policy_examples: bool = True
    imports: tuple[Import, ...] = ()
    seeded: Seeded | None = None
    """Pairs that a model writes; without this table none are."""
    validation: Share = 0.1
    """Share of the pairs held out, by pair id."""
    variants: dict[Variant, Share] = {}
    """Share of the training prompts, imports aside, that get such a variant besides the plain form."""
    carriers: Path = Path("training/prompts/carriers.toml")
    """What the variants put a request into."""
    near_duplicate: Share = 0.6
    """Jaccard similarity of character shingles from which a prompt counts as one of an evaluation set."""


class Endpoint(_Settings):
    """An OpenAI-compatible endpoint."""

    url: Text
    """Up to and including ``/v1``."""
    model: Text
    key_variable: str = ""
    """Name of the environment variable that holds the API key."""
    concurrency: Count = 64
    timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    retries: Annotated[int, Field(ge=0)] = 4

    def same_as(self, other: Endpoint) -> bool:
        """Whether both ask one model at one address."""
        return (self.url.rstrip("/"), self.model) == (other.url.rstrip("/"), other.model)


class Generate(_Settings):
    """The generate stage."""

    mode: Literal["free", "scaffold", "written"] = "free"
    """``free``: the teacher deliberates by itself. ``scaffold``: clause and verdict come from the label,
    the teacher writes what is asked and the answer. ``written``: without a teacher."""
    answers: Path = Path("training/prompts/answers.toml")
    """``written``: what refusals and safe completions say, by clause."""
    own_answers: Annotated[int, Field(ge=0)] = 300
    """``written``: prompts to comply with that the student answers itself before training; the other
    such rows teach the thinking alone."""
    book_answers: Annotated[int, Field(ge=0)] | None = None
    """``written``: prompts to refuse or complete safely that carry the answer book's text; about as many as
    ``own_answers``, or the student learns to refuse whatever it decided. All where it is absent."""
    batch: Count = 32
    """``written``: prompts that the student answers together."""
    samples: Count = 1
    temperature: Annotated[float, Field(ge=0.0)] = 0.7
    max_tokens: Count = 260


class Judge(_Settings):
    """The judge stage."""

    runs: Count = 2
    temperature: Annotated[float, Field(ge=0.0)] = 0.7


class Filter(_Settings):
    """The filter stage."""

    min_score: Share = 0.5
    unscored: Literal["keep", "drop"] = "drop"
    require_judge: bool = True
    max_thinking_words: Count = 120
    max_answer_words: Count = 220


class Capability(_Settings):
    """Rows mixed in so that the model keeps what it can do."""

    path: Text
    """File under ``data_dir``: CSV with subject, question, A-D, answer (MMLU's layout)."""
    rows: Count = 100


class Lora(_Settings):
    """A low-rank adapter; without this table the fine-tuning is full."""

    rank: Count = 32
    alpha: Count = 64
    dropout: Share = 0.0
    first_layer: Annotated[int, Field(ge=0)] = 0
    """The first layer that is adapted, from 0; the gradient ends there, which saves time on large models."""


class Sft(_Settings):
    """The sft stage."""

    lora: Lora | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    epochs: Annotated[float, Field(gt=0)] = 3.0
    max_steps: int = -1
    batch: Count = 16
    accumulation: Count = 1
    warmup_share: Share = 0.05
    scheduler: Text = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Count = 1024
    bf16: bool = True
    """Autocast; what is trained stays in fp32, a base frozen under an adapter is loaded in bf16."""
    save_steps: Count = 50
    finding_weight: Annotated[float, Field(ge=1)] = 1.0
    """Weight in the loss of the token in which a written thinking says its finding; of all others, 1."""
    clause_weight: Annotated[float, Field(ge=1)] = 1.0
    """Weight of the tokens that name the clause after it."""
    capability: Capability | None = None
    repeat: dict[str, Count] = {}
    """How many times rows of a source are seen in one epoch; 1 where not listed."""


class Rl(_Settings):
    """The rl stage."""

    start: Literal["sft", "student"] = "sft"
    """What it begins with. ``student``, the untrained one with a new adapter of the shape in ``sft.lora``, is
    the ablation "RL only"."""
    steps: Count = 100
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    kl: Annotated[float, Field(ge=0)] = 1e-3
    generations: Annotated[int, Field(ge=2)] = 8
    prompts_per_step: Count = 2
    accumulation: Count = 1
    """Parts in which a step's rollouts go through the model, for memory; a divisor of their number."""
    max_tokens: Count = 160
    temperature: Annotated[float, Field(gt=0)] = 1.0
    refusal_penalty: Annotated[float, Field(ge=0)] = 1.0
    citation_weight: Share = 0.2
    bf16: bool = True
    save_steps: Count = 20
    vllm: Literal["off", "colocate", "server"] = "off"
    vllm_url: str = ""
    """Of ``trl vllm-serve``, where ``vllm`` is ``server``."""
    judge: bool = False
    """Ask the judge endpoint for the spec-aware score; without it rule-based rubric alone."""


class Evaluate(_Settings):
    """The evaluate stage."""

    sets: tuple[EvaluationSet, ...] = get_args(EvaluationSet)[1:]
    """All but ``validation``: the held-out pairs, the one set on which settings may be chosen."""
    with_policy: tuple[EvaluationSet, ...] = ()
    """Sets that are also asked with the retrieved policy in the prompt, as the guard puts it there."""
    models: tuple[Literal["base", "sft", "rl", "endpoint", "guard"], ...] = ("base", "sft")
    """The student as it was, after a stage, what ``endpoint`` serves, or a running guard."""
    endpoint: Endpoint | None = None
    grader: Endpoint | None = None
    """Grades answers by StrongREJECT's rubric and SpecBench's rules; without it these sets have refusals
    alone. Must be none of the endpoints that made, judged or give answers."""
    guard: Endpoint | None = None
    """A running guard, which puts the policy into prompts by itself. Its key needs the scope ``reasoning``
    for verdicts and citations to be read."""
    limits: dict[EvaluationSet, Count] = {}
    """Prompts of a set that are asked, a fixed draw; all where it is not listed. A prompt is drawn with all
    its forms (templates, encodings). The report says so."""
    max_tokens: Count = 200
    batch: Count = 32
    resamples: Count = 2000


class Export(_Settings):
    """The export stage."""

    base: Text = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """Public name of the base that the adapter fits."""
    licence: Text = "Apache-2.0"
    out: Path = Path("deploy/embedded")
    notes: tuple[str, ...] = ()
    """What a reader of the card must know."""


class Recipe(_Settings):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = 0
    policy: Path = Path("specs/default")
    run_dir: Path
    data_dir: Path = Path("../shared/data")
    student: Text
    teacher: Endpoint | None = None
    judge_endpoint: Endpoint | None = None
    writer: Endpoint | None = None
    prompts: Prompts = Prompts()
    generate: Generate = Generate()
    judge: Judge = Judge()
    filter: Filter = Filter()
    sft: Sft = Sft()
    rl: Rl | None = None
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _grader_stands_apart(self) -> Self:
        others = {
            "teacher": self.teacher,
            "judge_endpoint": self.judge_endpoint,
            "evaluate.endpoint": self.evaluate.endpoint,
            "evaluate.guard": self.evaluate.guard,
        }
        grader = self.evaluate.grader
        for name, other in others.items():
            if grader is not None and other is not None and grader.same_as(other):
                raise PydanticCustomError(
                    "grader",
                    "evaluate.grader is {name} ({model} at {url}): a grader must be another model",
                    {"name": name, "model": grader.model, "url": grader.url},
                )
        return self

    def digest(self) -> str:
        """Content digest of every setting."""
        return digest(self.model_dump(mode="json"))
