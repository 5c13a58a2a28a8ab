"""Decoders: each finds one way of encoding inside a text and reads it where it stands.

A decoder takes a text and returns it with every encoded part replaced by what it says, or None where
it finds nothing. It looks at shapes first and then checks that the result is readable, so that prose,
code and numbers pass unchanged. All regular expressions are free of nested repetition over the same
characters, so the time is linear in the text.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable
from urllib.parse import unquote

import numpy as np

from guard.retrieval import letters

Decoder = Callable[[str], str | None]

_SURE = 12
"""Bytes from which being printable is proof enough: random bytes are so once in 100,000."""
_ENGLISH = -3.7
"""Mean ``ln P`` of letter pairs from which a short decoded text counts as words."""
_SUBSTITUTED = -3.1
"""The same for shifted alphabets, where every text decodes to letters of some kind."""

_WHOLE = 0.7
"""Share of the best stretch's gain from which the whole text is taken to be transformed."""


def readable(text: str, sure: int = _SURE) -> bool:
    """Whether a decoded text can be a message: printable, mostly letters, and wordlike if short."""
    if len(text) < 3 or not all(c.isprintable() or c in "\n\r\t" for c in text):
        return False
    if sum(c.isalpha() or c == " " for c in text) < 0.6 * len(text):
        return False
    if len(text) >= sure or not text.isascii():
        return True
    return letters.english(text) > _ENGLISH and len(set(text)) > 2


def _of_bytes(data: bytes) -> str | None:
    if len(data) >= 4 and data[1::2].count(0) == len(data[1::2]):
        data = data[::2]  # UTF-16, as PowerShell writes it
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if readable(text) else None


def _replaced(pattern: re.Pattern[str], read: Callable[[str], str | None], text: str) -> str | None:
    """The text with each match that can be read replaced, or None where none could."""
    found = False

    def one(match: re.Match[str]) -> str:
        nonlocal found
        plain = read(match[0])
        if plain is None:
            return match[0]
        found = True
        return plain + match[0][len(match[0].rstrip()) :]

    result = pattern.sub(one, text)
    return result if found else None


_BASE64_WORD = (
    r"(?=[A-Za-z0-9+/_-]*?(?:[a-z][A-Z]|[A-Z]{2}[a-z]|[0-9+/]|[A-Za-z0-9]{24}|[A-Za-z]=))"
    r"[A-Za-z0-9+/_-]{2,}={0,2}"
)
"""A word that looks encoded: case changes inside, digits, padding, or great length."""
_BASE64 = re.compile(rf"(?<![A-Za-z0-9+/_-]){_BASE64_WORD}(?:\s+{_BASE64_WORD})*")
_WORD = re.compile(r"\S+")


def _base64_bytes(run: str) -> str | None:
    digits = "".join(run.split()).rstrip("=").replace("-", "+").replace("_", "/")
    if len(digits) < 6 or len(digits) % 4 == 1:
        return None
    try:
        return _of_bytes(base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True))
    except binascii.Error:
        return None


def _base64_run(run: str) -> str | None:
    """Read neighbouring words as one message, else each by itself."""
    whole = _base64_bytes(run)
    if whole is not None:
        return whole
    words = run.split()
    plain = [_base64_bytes(word) for word in words]
    if not any(plain):
        return None
    return " ".join(read or word for read, word in zip(plain, words, strict=True))


def base64_(text: str) -> str | None:
    """Base64 and base64url, in a sentence, in groups, or split over lines."""
    return _replaced(_BASE64, _base64_run, text)


_BASE32 = re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{10,}={0,6}(?![A-Za-z0-9])")


def base32(text: str) -> str | None:
    """Base32 words of ten characters or more."""

    def read(run: str) -> str | None:
        digits = run.rstrip("=")
        try:
            return _of_bytes(base64.b32decode(digits + "=" * (-len(digits) % 8)))
        except binascii.Error:
            return None

    return _replaced(_BASE32, read, text)


_HEX = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[\s,:]*){4,}(?![0-9A-Za-z])")


def hexadecimal(text: str) -> str | None:
    """Hex bytes, bare or with ``0x``, joined or apart."""

    def read(run: str) -> str | None:
        return _of_bytes(bytes.fromhex(re.sub(r"0x|\\x|[\s,:]+", "", run)))

    return _replaced(_HEX, read, text)


_BINARY = re.compile(r"(?<![0-9A-Za-z])(?:[01]{7,8}[\s,]+){2,}[01]{7,8}(?!\d)|(?<!\d)[01]{24,}(?!\d)")


def binary(text: str) -> str | None:
    """Bytes as ones and zeros, in groups of seven or eight or in one row."""

    def read(run: str) -> str | None:
        groups = re.split(r"[\s,]+", run.strip())
        if len(groups) == 1:
            groups = [run[at : at + 8] for at in range(0, len(run), 8)]
        return _of_bytes(bytes(int(group, 2) for group in groups))

    return _replaced(_BINARY, read, text)


_CODES = re.compile(r"(?<!\d)(?:\d{2,3}[\s,]+){4,}\d{2,3}(?!\d)")


def decimal(text: str) -> str | None:
    """Character codes in decimal, five or more."""

    def read(run: str) -> str | None:
        codes = [int(code) for code in re.split(r"[\s,]+", run)]
        if any(not 32 <= code < 127 for code in codes):
            return None
        plain = "".join(map(chr, codes))
        return plain if readable(plain, sure=10_000) else None

    return _replaced(_CODES, read, text)


_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ESCAPE = re.compile(r"\\u\{?([0-9A-Fa-f]{4,6})\}?|\\x([0-9A-Fa-f]{2})|=([0-9A-F]{2})")
_ENTITY = re.compile(r"&#?[0-9A-Za-z]{2,8};")


def percent(text: str) -> str | None:
    """Percent-encoding with three escapes or more."""
    if len(_PERCENT.findall(text)) < 3:
        return None
    return unquote(text if " " in text else text.replace("+", " "), errors="replace")


def escapes(text: str) -> str | None:
    r"""HTML entities, ``\\u0041``, ``\\x41`` and quoted-printable, three or more."""
    result = html.unescape(text) if len(_ENTITY.findall(text)) >= 3 else text
    if len(_ESCAPE.findall(result)) >= 3:
        result = _ESCAPE.sub(lambda m: chr(min(int(m[1] or m[2] or m[3], 16), 0x10FFFF)), result)
    return result if result != text else None


_LOWER = "abcdefghijklmnopqrstuvwxyz"
_ROT13 = str.maketrans(
    _LOWER + _LOWER.upper(), (_LOWER[13:] + _LOWER[:13]) + (_LOWER[13:] + _LOWER[:13]).upper()
)
_ATBASH = str.maketrans(_LOWER + _LOWER.upper(), _LOWER[::-1] + _LOWER[::-1].upper())


def reversed_(text: str) -> str | None:
    """Text written backwards, or a stretch of it."""
    return _stretch(text, letters.REVERSED, lambda part: part[::-1])


def rot13(text: str) -> str | None:
    """The alphabet moved by thirteen, whole or a stretch of it."""
    return _stretch(text, letters.SUBSTITUTED["rot13"], lambda part: part.translate(_ROT13))


def atbash(text: str) -> str | None:
    """The alphabet turned round, whole or a stretch of it."""
    return _stretch(text, letters.SUBSTITUTED["atbash"], lambda part: part.translate(_ATBASH))


def _stretch(text: str, table: letters.Table, read: Callable[[str], str]) -> str | None:
    """Transform the stretch of words that gains most, where the gain is beyond chance."""
    values = letters.gains(letters.classes(f" {text} "), table)
    if letters.best_stretch(values) < letters.THRESHOLD:
        return None
    spans = [match.span() for match in _WORD.finditer(text)]
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    edges = np.array(spans)
    best, first, last, total, begin = 0.0, 0, 0, 0.0, 0
    for number, gain in enumerate((sums[edges[:, 1] + 1] - sums[edges[:, 0]]).tolist()):
        if total <= 0:
            total, begin = 0.0, number
        total += gain
        if total > best:
            best, first, last = total, begin, number
    left, right = spans[first][0], spans[last][1]
    if float(sums[-1]) > _WHOLE * best:
        left, right = spans[0][0], spans[-1][1]
    plain = read(text[left:right])
    if best < letters.THRESHOLD or letters.english(plain) < _SUBSTITUTED:
        return None
    return text[:left] + plain + text[right:]
