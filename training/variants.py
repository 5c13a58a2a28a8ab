"""The same request in other clothes: encoded, inside a role, inside a document, after other turns.

A variant changes neither the ruling nor the clause. Which prompts get one, and which carrier, is decided
by a hash of their content, so that a run is the same run wherever it is made.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from training.carriers import SLOT, Carriers
from training.records import Message, Prompt, prompt_id

LOTS = 251
_LEET = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"})
_LIGHT_LEET = str.maketrans({"a": "@", "e": "3", "o": "0"})
_LONGER_WORD = re.compile(r"[^\W\d_]{4,}")

NOTES = {
    "base64": "The text is base64.",
    "rot13": "The text is rot13.",
    "leetspeak": "The text is written in leetspeak.",
    "spelled": "Words of the text are spelled out or turned round.",
    "roleplay": "The role does not change what is asked.",
    "pressed": "How it is to be answered does not change what is asked.",
    "document": "The request stands inside a text.",
    "multi_turn": "",
    "system": "",
}
"""What the thinking says about each variant, before anything else."""


def make_variants(prompt: Prompt, shares: Mapping[Any, float], carriers: Carriers) -> list[Prompt]:
    """The variants that fall to this prompt; none that leaves it as it was.

    Args:
        prompt: A plain prompt of one user turn.
        shares: Share of the prompts that get each variant, by name.
        carriers: The texts that requests are put into.
    """
    made = []
    for name, share in shares.items():
        lot = int.from_bytes(hashlib.sha256(f"{name}:{prompt.id}".encode()).digest()[:8], "big")
        if (lot >> 8) / (1 << 56) >= share:
            continue
        messages = _MAKERS[name](prompt.text, lot % LOTS, carriers)
        if messages != prompt.messages:
            made.append(
                prompt.model_copy(
                    update={
                        "id": prompt_id(messages),
                        "messages": messages,
                        "variant": name,
                        "plain": prompt.text,
                    }
                )
            )
    return made


def as_base64(text: str) -> str:
    """A request in base64."""
    return f"Decode this and answer it: {base64.b64encode(text.encode()).decode()}"


def as_rot13(text: str) -> str:
    """A request in rot13."""
    return f"Answer this rot13 message: {codecs.encode(text, 'rot13')}"


def as_leetspeak(text: str) -> str:
    """A request with six letters as digits.

    >>> as_leetspeak("Where is it?")
    'wh3r3 15 17?'
    """
    return text.lower().translate(_LEET)


def as_light_leetspeak(text: str) -> str:
    """A request with three letters as signs.

    >>> as_light_leetspeak("Where are the boats?")
    'Wh3r3 @r3 th3 b0@ts?'
    """
    return text.translate(_LIGHT_LEET)


def as_spelled(text: str, lot: int) -> str:
    """A request whose longer words are set apart by spaces or hyphens, or reversed.

    >>> [as_spelled("Is it late?", lot) for lot in range(3)]
    ['Is it l a t e?', 'Is it l-a-t-e?', 'Is it etal?']
    """
    spell = (" ".join, "-".join, lambda word: word[::-1])[lot % 3]
    return _LONGER_WORD.sub(lambda word: spell(word[0]), text)


def _user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _within(texts: tuple[str, ...], lot: int, text: str) -> tuple[Message, ...]:
    return _user(texts[lot % len(texts)].replace(SLOT, text))


def _leetspeak(text: str, lot: int, carriers: Carriers) -> tuple[Message, ...]:
    return _user(as_light_leetspeak(text) if lot % 2 else as_leetspeak(text))


def _multi_turn(text: str, lot: int, carriers: Carriers) -> tuple[Message, ...]:
    said = carriers.multi_turn[lot % len(carriers.multi_turn)]
    turns = (
        Message(role="assistant" if place % 2 else "user", content=words) for place, words in enumerate(said)
    )
    return (*turns, *_user(text))


def _system(text: str, lot: int, carriers: Carriers) -> tuple[Message, ...]:
    return (Message(role="system", content=carriers.system[lot % len(carriers.system)]), *_user(text))


_MAKERS: dict[str, Callable[[str, int, Carriers], tuple[Message, ...]]] = {
    "base64": lambda text, lot, carriers: _user(as_base64(text)),
    "rot13": lambda text, lot, carriers: _user(as_rot13(text)),
    "leetspeak": _leetspeak,
    "spelled": lambda text, lot, carriers: _user(as_spelled(text, lot)),
    "roleplay": lambda text, lot, carriers: _within(carriers.roleplay, lot, text),
    "pressed": lambda text, lot, carriers: _within(carriers.pressed, lot, text),
    "document": lambda text, lot, carriers: _within(carriers.document, lot, text),
    "multi_turn": _multi_turn,
    "system": _system,
}
