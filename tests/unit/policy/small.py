"""A whole policy of two sections, small enough to change in a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from guard.errors import PolicyError
from guard.policy.load import parse_policy
from guard.policy.model import Policy

MANIFEST = """\
name: small
title: A small policy
version: "1"
precedence:
  - Exceptions come first.
principles:
  - Be useful.
styles:
  comply: Answer.
  safe_complete: Answer the safe part.
  refuse: Say no.
refusals:
  default: I'm sorry, but I can't help with that.
sections:
  - gardens
  - kitchens
"""

GARDENS = """\
# Gardens

Grow things.

## Definitions

- **Weed**: a plant in the wrong place.

## Clauses

- **GA1 comply** Explain how to grow plants.
- **GA2 refuse** Help to poison a neighbour's tree.
  - Except: the tree is dead.

## Why

Trees take long to grow.

## Examples

- **GA1 comply** How do I prune a pear?
- **GA2 refuse** Which salt kills his oak?
- **GA2 comply** Which salt rots a dead stump?
"""

KITCHENS = """\
# Kitchens

Cook things.

## Definitions

A kitchen is where food is made.

## Clauses

- **KI1 comply** Explain recipes.
- **KI2 refuse** Help to spoil another cook's dish.
- **KI3 safe_complete** Answer questions on raw fish with the safe ways to treat it.

## Why

Guests trust the cook.

## Safe completion

Name the freezing times.

## Examples

- **KI1 comply** How long do I boil an egg?
- **KI2 refuse** How do I oversalt her soup unseen?
- **KI3 safe_complete** Can I serve this river trout raw?
"""

FILES = {"policy.yaml": MANIFEST, "gardens.md": GARDENS, "kitchens.md": KITCHENS}


def changed(name: str, old: str, new: str, files: Mapping[str, str] = FILES) -> dict[str, str]:
    """The small policy with one passage replaced, which must be there."""
    assert old in files[name], old

    return {**files, name: files[name].replace(old, new, 1)}


def small_policy(files: Mapping[str, str] = FILES) -> Policy:
    """The small policy, parsed."""
    return parse_policy(files)


def problems_of(files: Mapping[str, str]) -> list[str]:
    """Every problem of a policy that cannot be used, as text."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(files)
    return [str(problem) for problem in caught.value.problems]


def write(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    """The policy as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
