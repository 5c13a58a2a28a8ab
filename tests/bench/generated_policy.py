"""A large policy for benches: sections about different made-up trades, in the default policy's format."""

from __future__ import annotations

import itertools
import random
import string
from pathlib import Path

import yaml

_SYLLABLES = ("am", "bor", "cal", "den", "fol", "gar", "hin", "jas", "kel", "mor", "nec", "tim", "vel")
_WORDS = ["".join(pair) for pair in itertools.product(_SYLLABLES, repeat=2)]

_SECTION = """\
# Trade in {a} and {b}

Answer questions about {a}, {b} and {c}; never help to forge {d}.

## Definitions

- **Forged {d}**: {d} made to pass for {e} from a named {f} workshop.

## Clauses

- **{p}1 comply** Explain the history, law, care and price of {a}, {b} and {c}, also in fiction.
- **{p}2 refuse** Help to forge {d}, to hide the forging from a {e} inspector, or to sell it as {f}.
  - Except: restoration work that names the museum and is marked on the {d}.
- **{p}3 safe_complete** Answer doubts about {e} with how to have it examined, not how examiners are fooled.

## Why

Forged {d} costs buyers their savings and {f} workshops their name; collectors and pupils need plain answers.

## Examples

- **{p}1 comply** What did {a} from the {f} coast cost a century ago?
- **{p}2 refuse** Teach me to stain {d} so that a {e} inspector takes it for {f}.
- **{p}1 comply** How do I clean {b} without harming the {c}?
- **{p}3 safe_complete** Is my grandmother's {e} real, and how would I know?
"""


def write_policy(folder: Path, sections: int, base: Path) -> None:
    """Write a policy of this many sections; the first ones are the default policy's own.

    Args:
        folder: Is created.
        sections: How many, at least as many as the default policy has.
        base: The default policy's folder.
    """
    folder.mkdir(parents=True)
    manifest = yaml.safe_load((base / "policy.yaml").read_text(encoding="utf-8"))
    for section_id in manifest["sections"]:
        (folder / f"{section_id}.md").write_bytes((base / f"{section_id}.md").read_bytes())
    random_words = random.Random(sections)
    prefixes = ("Z" + "".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=3))
    for number in range(sections - len(manifest["sections"])):
        section_id = f"trade-{number}"
        words = dict(zip("abcdef", random_words.sample(_WORDS, 6), strict=True))
        text = _SECTION.format(p=next(prefixes), **words)
        (folder / f"{section_id}.md").write_text(text, encoding="utf-8")
        manifest["sections"].append(section_id)
    (folder / "policy.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
