"""XSTest's published completions of five models with the labels that people gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from training.files import read_table


class XstestCompletion(NamedTuple):
    """One completion."""

    model: str
    label: str
    """``full compliance``, ``partial refusal`` or ``full refusal``."""
    row: Mapping[str, str]
    """Its columns, ``id``, ``prompt`` and ``completion`` among them."""


def xstest_completions(data_dir: Path) -> Iterator[XstestCompletion]:
    """All of them, model by model; none where the folder is absent.

    Raises:
        DataError: A file cannot be parsed.
        KeyError: A file has no labels.
    """
    for path in sorted((data_dir / "xstest/model_completions").glob("*.csv")):
        model = path.stem.rpartition("_")[2]
        for row in read_table(path):
            yield XstestCompletion(model, row["final_label"].partition("_")[2].replace("_", " "), row)
