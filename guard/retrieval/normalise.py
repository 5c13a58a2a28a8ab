"""All the ways in which a text may be meant: as it stands, cleaned, and decoded.

Retrieval looks for the sections that matter in every reading. Ordinary prose has exactly one and
costs a few tens of microseconds: one regular expression over shapes and one pass over letter
statistics decide whether anything further is tried.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from guard.retrieval import alphabets, decode, disguise, letters

LIMIT = 20_000
"""Characters of a text that are looked at: the first and the last half of it."""
MAX_READINGS = 8
"""Readings of one text, the plain one included."""
MAX_CHARACTERS = 3 * LIMIT
"""Characters of all readings of one text together; the last one may go over it."""
DEPTH = 2
"""How many encodings on top of each other are undone."""

PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a text."""

    text: str
    via: str
    """``plain``, or the disguises and encodings undone, outermost first, joined by ``+``."""


_DECODERS: tuple[tuple[str, decode.Decoder], ...] = (
    ("base64", decode.base64_),
    ("base32", decode.base32),
    ("hex", decode.hexadecimal),
    ("binary", decode.binary),
    ("decimal", decode.decimal),
    ("percent", decode.percent),
    ("escapes", decode.escapes),
    ("rot13", decode.rot13),
    ("atbash", decode.atbash),
    ("reversed", decode.reversed_),
    ("morse", alphabets.morse),
    ("braille", alphabets.braille),
    ("spelled", alphabets.spelled),
)

_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        r"[A-Za-z0-9+/_=-]{16}",  # long words: base64, base32, joined hex or binary
        r"[A-Z](?<=[a-z][A-Z])\S{3}",  # shorter base64
        r"[\s.*_|/,-]\w[\s.*_|/,-]{1,4}\w[\s.*_|/,-]{1,4}\w\b",  # spaced letters
        r"-[ .-]-|\.[ .-]\.|[–—•·⠁-⣿]",  # Morse, Braille
    )
)
_SIGN = re.compile(r"[0-9@$!|%&\\=]")
_SIGNED_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        r"[0134578@$!|][A-Za-z]|(?<=[A-Za-z]{2})[034$@](?![\w.])",  # leetspeak
        r"[0-9A-Fa-f]{2}[ ,:][0-9A-Fa-f]{2}[ ,:][0-9A-Fa-f]{2}[ ,:]|0x",  # hex
        r"\d{2,3},? \d{2,3},? \d{2,3}|[01]{7}",  # decimal and binary
        r"[%=][0-9A-Fa-f]{2}|[^\s=]{5}=|&#?\w{2,8};|\\[ux]",  # escapes and padded base64
    )
)
"""Looked for only where the text has a sign or digit at all."""


def _suspicious(texts: Sequence[str]) -> list[bool]:
    """Whether anything in a text has the look of a disguise or an encoding."""
    found = [_has_shape(text) for text in texts]
    others = [number for number, shaped in enumerate(found) if not shaped]
    if others:
        turned = letters.transformed([texts[number] for number in others])
        for number, is_turned in zip(others, turned, strict=True):
            found[number] = is_turned
    return found


def _has_shape(text: str) -> bool:
    return (
        any(shape.search(text) for shape in _SHAPES)
        or (_SIGN.search(text) is not None and any(s.search(text) for s in _SIGNED_SHAPES))
        or len(alphabets.SPOKEN.intersection(text.lower().split())) >= 3
    )


def bounded(text: str, limit: int = LIMIT) -> str:
    """The first and last half of ``limit`` characters, or the whole of a shorter text."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n{text[-(limit // 2) :]}"


def readings(text: str, lexicon: disguise.Lexicon | None = None) -> tuple[Reading, ...]:
    """The cleaned text first, then what decodings made of it, each once; see ``readings_of``."""
    return readings_of([text], lexicon)[0]


def readings_of(texts: Sequence[str], lexicon: disguise.Lexicon | None = None) -> list[tuple[Reading, ...]]:
    """The readings of texts, which cost less together than one by one.

    Args:
        texts: Anything clients sent; only ``LIMIT`` characters of each are looked at.
        lexicon: Known words by rank, to choose between ``1`` as *i* and as *l* and to set
            run-together letters apart; without it letter statistics have to do.

    Returns:
        Between 1 and ``MAX_READINGS`` readings of each: the cleaned text first, then what decodings made
        of it, each once.
    """
    cleaned = [disguise.clean(bounded(text)) for text in texts]
    plain = [Reading(text, "+".join(disguises) or PLAIN) for text, disguises in cleaned]
    suspicious = _suspicious([reading.text for reading in plain])
    return [
        _decodings(reading, lexicon or {}) if suspect else (reading,)
        for reading, suspect in zip(plain, suspicious, strict=True)
    ]


def _decodings(first: Reading, words: disguise.Lexicon) -> tuple[Reading, ...]:
    """A reading, and what decodings make of it."""
    decoders = (
        *_DECODERS,
        ("spaced", lambda text: disguise.spaced(text, words)),
        ("leetspeak", lambda text: disguise.leetspeak(text, words)),
    )
    found = {first.text: first}
    frontier = [first]
    for _ in range(DEPTH):
        frontier = [new for reading in frontier for new in _decoded(reading, decoders, found)]
    return tuple(found.values())


def _decoded(
    reading: Reading, decoders: Sequence[tuple[str, decode.Decoder]], found: dict[str, Reading]
) -> list[Reading]:
    """What each decoder makes of a reading, where it is new; ``found`` is added to."""
    new: list[Reading] = []
    for name, decoder in decoders:
        if len(found) >= MAX_READINGS or sum(map(len, found)) >= MAX_CHARACTERS:
            break
        plain = decoder(reading.text)
        if plain is None:
            continue
        plain = disguise.clean(bounded(plain))[0]
        if plain.strip() and plain not in found:
            via = name if reading.via == PLAIN else f"{reading.via}+{name}"
            found[plain] = Reading(plain, via)
            new.append(found[plain])
    return new
