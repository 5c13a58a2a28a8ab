"""Capability rows mixed into SFT, so that the model keeps answering what it could answer."""

from __future__ import annotations

import hashlib
from pathlib import Path

from guard.policy.model import Ruling
from training.deliberate import written_thinking
from training.errors import DataError
from training.files import read_table
from training.held_out import concerns_children
from training.recipe import Capability
from training.records import Example, prompt_id, user

_COLUMNS = ("question", "A", "B", "C", "D", "answer")


def capability_rows(settings: Capability, data_dir: Path) -> list[Example]:
    """Multiple-choice questions with their right answers, a fixed draw.

    Raises:
        DataError: The file is absent or lacks a column.
    """
    path = data_dir / settings.path
    if not path.is_file():
        raise DataError(f"capability set: {path} does not exist")
    rows = [row for row in read_table(path) if isinstance(row, dict)]
    if not rows or any(column not in rows[0] for column in _COLUMNS):
        raise DataError(f"capability set: {path} needs the columns {', '.join(_COLUMNS)}")
    rows.sort(key=lambda row: hashlib.sha256(row["question"].encode()).digest())
    made = []
    for row in rows:
        if len(row["question"]) > 400 or concerns_children(row["question"]):
            continue
        choices = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
        messages = user(f"{row['question']}\n\n{choices}\n\nWhich is right?")
        thinking = written_thinking(row["question"], Ruling.COMPLY, None)
        answer = f"{row['answer']}. {row[row['answer']]}"
        made.append(
            Example(
                id=prompt_id(messages),
                messages=messages,
                thinking=thinking,
                answer=answer,
                source="capability",
                ruling=Ruling.COMPLY,
            )
        )
    return made[: settings.rows]
