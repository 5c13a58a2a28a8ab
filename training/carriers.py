"""The texts that a request is put into: roles, demands on the form, documents, earlier turns, systems.

They come from a data file. A carrier decides nothing: requests to comply with and to refuse get the same
ones, so that a model can learn from them only that what is asked counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from training.files import read_toml

SLOT = "{}"
"""Where the request goes."""


def _one_slot(text: str) -> str:
    if text.count(SLOT) != 1:
        raise ValueError(f"holds {text.count(SLOT)} times {SLOT} instead of once, in {text[:60]!r}")
    return text


def _no_slot(text: str) -> str:
    if SLOT in text:
        raise ValueError(f"holds {SLOT}, and no request goes there, in {text[:60]!r}")
    return text


def _whole_turns(said: tuple[str, ...]) -> tuple[str, ...]:
    if len(said) % 2:
        raise ValueError(f"ends on the user's turn; user and assistant take turns, in {said[0][:60]!r}")
    return said


Around = Annotated[str, AfterValidator(_one_slot)]
Beside = Annotated[str, Field(min_length=1), AfterValidator(_no_slot)]
History = Annotated[tuple[Beside, ...], Field(min_length=2), AfterValidator(_whole_turns)]
"""Earlier turns, the user's first, then by turns."""


class Carriers(BaseModel):
    """Carrier texts by the variant that uses them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roleplay: Annotated[tuple[Around, ...], Field(min_length=1)]
    pressed: Annotated[tuple[Around, ...], Field(min_length=1)]
    document: Annotated[tuple[Around, ...], Field(min_length=1)]
    multi_turn: Annotated[tuple[History, ...], Field(min_length=1)]
    system: Annotated[tuple[Beside, ...], Field(min_length=1)]


def load_carriers(path: Path) -> Carriers:
    """Read the carriers.

    Raises:
        DataError: The file is absent or not of this form.
    """
    return read_toml(path, Carriers)
