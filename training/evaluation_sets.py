"""The public evaluation sets: never trained on, and what the evaluate stage measures.

Every loader leaves out rows that concern children and says how many. A set that is not on this machine
is refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson

from guard.policy.model import Ruling
from training.encodings import encodings
from training.errors import DataError
from training.files import read_table
from training.held_out import concerns_children, or_bench_held_out
from training.ifeval import covered
from training.jailbreaks import jailbreaks, templates
from training.records import Instruction, Item, Message

UNREFUSED_HARMS = frozenset({"Mental Health or Overreliance Crisis", "Treat Chatbot as a Human"})
"""Do-Not-Answer's types of harm where a good answer helps rather than refuses."""
SCENARIOS = ("Biochem", "Code", "Health", "Travel")
"""SpecBench's, without the one of stories for children."""
RESPONSES = {
    "Comply": Ruling.COMPLY,
    "Hard Refuse": Ruling.REFUSE,
    "Safe Refuse 1": Ruling.SAFE_COMPLETE,
    "Safe Refuse 2": Ruling.SAFE_COMPLETE,
}
"""What openai-rbr-gold's response types are called here."""


class Loaded(NamedTuple):
    """A set as it is measured."""

    items: list[Item]
    children: int
    """Rows left out because they concern children."""
    note: str
    """What a reader of its numbers must know."""


def load_set(name: str, data_dir: Path) -> Loaded:
    """The rows of a set.

    Raises:
        DataError: There is no such set, or its files are absent or unreadable.
    """
    if name not in SETS:
        raise DataError(f"unknown evaluation set {name!r}; known: {', '.join(SETS)}")
    try:
        return SETS[name](data_dir)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"evaluation set {name!r} cannot be read under {data_dir}: {error}") from error


def _kept(rows: Callable[[Path], Iterator[Item]], note: str, data_dir: Path) -> Loaded:
    """A set without the rows in which the user speaks of children."""
    items = list(rows(data_dir))
    kept = [item for item in items if not any(map(concerns_children, _user_texts(item)))]
    return Loaded(kept, len(items) - len(kept), note)


def _user_texts(item: Item) -> Iterator[str]:
    return (message.content for message in item.conversation if message.role == "user")


def _xstest(data_dir: Path) -> Iterator[Item]:
    for row in read_table(data_dir / "xstest/xstest_prompts.csv"):
        yield Item(
            set="xstest",
            id=row["id"],
            prompt=row["prompt"],
            harmful=row["label"] == "unsafe",
            category=row["type"],
        )


def _strongreject(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "strongreject/strongreject_dataset.csv")):
        yield Item(
            set="strongreject",
            id=str(n),
            prompt=row["forbidden_prompt"],
            harmful=True,
            category=row["category"],
        )


def _jailbreaks(data_dir: Path) -> Loaded:
    plain = load_set("strongreject", data_dir)
    chosen = templates(data_dir)
    note = (
        f"Every prompt is asked under {len(chosen)} human-written templates ({', '.join(chosen)}). Goodness "
        "by answer or verdict is 1 where that refuses, else 0; by grader it is 1 less the StrongREJECT score."
    )
    return plain._replace(items=list(jailbreaks(plain.items, chosen)), note=note)


def _encodings(data_dir: Path) -> Loaded:
    plain = load_set("strongreject", data_dir)
    note = (
        "Every prompt is asked plain and in each encoding. A model that cannot read an encoding gives an "
        "answer that is of no use and counts as not refused."
    )
    return plain._replace(items=list(encodings(plain.items)), note=note)


def _harmbench(data_dir: Path) -> Iterator[Item]:
    for row in read_table(data_dir / "harmbench/harmbench_behaviors_text_all.csv"):
        if row["FunctionalCategory"] == "standard":
            yield Item(
                set="harmbench",
                id=row["BehaviorID"],
                prompt=row["Behavior"],
                harmful=True,
                category=row["SemanticCategory"],
            )


def _do_not_answer(data_dir: Path) -> Iterator[Item]:
    for row in read_table(data_dir / "do-not-answer/do_not_answer_en.csv"):
        yield Item(
            set="do-not-answer",
            id=row["id"],
            prompt=row["question"],
            harmful=None if row["types_of_harm"] in UNREFUSED_HARMS else True,
            category=row["types_of_harm"],
            part=row["risk_area"],
        )


def _or_bench(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "or-bench/or-bench-hard-1k.csv")):
        if or_bench_held_out(row["prompt"]):
            yield Item(
                set="or-bench", id=str(n), prompt=row["prompt"], harmful=False, category=row["category"]
            )


def _specbench(data_dir: Path) -> Iterator[Item]:
    for scenario in SCENARIOS:
        folder = data_dir / "specbench" / scenario
        about = orjson.loads((folder / "scenario.json").read_bytes())["description"]
        rules = orjson.loads((folder / "specifications.json").read_bytes())["safety_specifications"]
        system = "\n".join([about, "Rules:", *(f"- {rule}" for rule in rules)])
        for n, row in enumerate(read_table(folder / "prompts.json")):
            yield Item(
                set="specbench",
                id=f"{scenario}-{n}",
                prompt=row["adversarial_prompt"],
                before=(Message(role="system", content=system),),
                harmful=row["label"] == "unsafe",
                part=scenario,
            )


def _rbr_style(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "openai-rbr-gold/rbr_gold_test.jsonl")):
        *before, last = (Message.model_validate(turn) for turn in row["prompt"])
        yield Item(
            set="rbr-style",
            id=str(n),
            prompt=last.content,
            before=tuple(before),
            category=row["category"],
            response=RESPONSES[row["response_type"]],
        )


def _gsm8k(data_dir: Path) -> Iterator[Item]:
    for n, row in enumerate(read_table(data_dir / "gsm8k/gsm8k_test.jsonl")):
        reference = row["answer"].rpartition("####")[2].strip()
        yield Item(set="gsm8k", id=str(n), prompt=row["question"], reference=reference)


def _ifeval(data_dir: Path) -> Loaded:
    loaded = _kept(_ifeval_rows, "", data_dir)
    checked = [item for item in loaded.items if all(map(covered, item.instructions))]
    unchecked = Counter(
        instruction.kind
        for item in loaded.items
        for instruction in item.instructions
        if not covered(instruction)
    )
    note = (
        f"{len(checked)} of {len(loaded.items)} prompts ask only for what is checked exactly here. Left out: "
        f"{', '.join(f'{kind} ({count})' for kind, count in unchecked.most_common())}."
    )
    return loaded._replace(items=checked, note=note)


def _ifeval_rows(data_dir: Path) -> Iterator[Item]:
    for row in read_table(data_dir / "ifeval/ifeval_input_data.jsonl"):
        instructions = tuple(
            Instruction(kind=kind, arguments={k: v for k, v in arguments.items() if v is not None})
            for kind, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        )
        yield Item(set="ifeval", id=str(row["key"]), prompt=row["prompt"], instructions=instructions)


SETS: dict[str, Callable[[Path], Loaded]] = {
    "xstest": partial(_kept, _xstest, ""),
    "strongreject": partial(_kept, _strongreject, ""),
    "strongreject-jailbreaks": _jailbreaks,
    "strongreject-encodings": _encodings,
    "harmbench": partial(_kept, _harmbench, "The standard behaviours."),
    "do-not-answer": partial(
        _kept,
        _do_not_answer,
        f"No decision is counted on questions of the types {' and '.join(sorted(UNREFUSED_HARMS))}: a good "
        "answer to them helps.",
    ),
    "or-bench": partial(_kept, _or_bench, "The third that a fixed hash keeps from training."),
    "specbench": partial(
        _kept,
        _specbench,
        f"Adversarial prompts of the scenarios {', '.join(SCENARIOS)}, under the scenario's description and "
        "safety rules as system prompt. An answer can keep to the rules without refusing, so that refusals "
        "of harmful prompts are a lower bound of what the set's own judge counts.",
    ),
    "rbr-style": partial(
        _kept, _rbr_style, "Prompts of openai-rbr-gold's test file; the style that its rules ask for."
    ),
    "gsm8k": partial(_kept, _gsm8k, ""),
    "ifeval": _ifeval,
}
