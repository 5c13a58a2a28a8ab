"""Pairs of prompts as a model hands them in: their form as JSON, and the reading of what comes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from guard.policy.model import Ruling
from training.records import Prompt

_FLAT_OBJECT = re.compile(r'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}', re.DOTALL)


class Draft(BaseModel):
    """Two requests that differ in one fact, and how the writer would rule on each."""

    model_config = ConfigDict(frozen=True)

    fact: str
    """What differs. It stands first so that the writer settles it before it writes."""
    allowed: str
    allowed_ruling: Ruling
    crossing: str
    crossing_ruling: Ruling


def response_format(count: int) -> dict[str, Any]:
    """The ``response_format`` of a chat completion that holds so many drafts and nothing else."""
    ruling = {"type": "string", "enum": [str(ruling) for ruling in Ruling]}
    fields: dict[str, Any] = {
        name: ruling if name.endswith("_ruling") else {"type": "string"} for name in Draft.model_fields
    }
    closed = {"type": "object", "additionalProperties": False}
    pair = {**closed, "properties": fields, "required": list(fields)}
    pairs = {"type": "array", "items": pair, "minItems": count, "maxItems": count}
    schema = {**closed, "properties": {"pairs": pairs}, "required": ["pairs"]}
    return {"type": "json_schema", "json_schema": {"name": "pairs", "strict": True, "schema": schema}}


def read_drafts(text: str) -> list[Draft]:
    """The drafts in a reply, also in one that was cut off or has words around its JSON.

    >>> read_drafts("I cannot write that.")
    []
    """
    drafts = []
    for found in _FLAT_OBJECT.finditer(text):
        try:
            drafts.append(Draft.model_validate(json.loads(found[0], strict=False)))
        except (ValueError, RecursionError):
            continue
    return drafts


def as_drafts(written: Sequence[Prompt]) -> dict[str, list[Draft]]:
    """Hand-written pairs that have an allowed side and another one, as drafts, by section."""
    sides: dict[tuple[str | None, str | None], list[Prompt]] = {}
    for prompt in written:
        sides.setdefault((prompt.section, prompt.pair), []).append(prompt)
    found: dict[str, list[Draft]] = {}
    for (section, _), both in sides.items():
        by_ruling = {prompt.ruling: prompt for prompt in both}
        allowed = by_ruling.pop(Ruling.COMPLY, None)
        for ruling, crossing in by_ruling.items():
            if allowed is not None and ruling is not None and section is not None:
                draft = Draft(
                    fact=f"{allowed.decisive} / {crossing.decisive}",
                    allowed=allowed.text,
                    allowed_ruling=Ruling.COMPLY,
                    crossing=crossing.text,
                    crossing_ruling=ruling,
                )
                found.setdefault(section, []).append(draft)
    return found
