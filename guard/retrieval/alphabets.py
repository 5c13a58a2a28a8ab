"""Other alphabets of the same letters: Morse, Braille, and the words that radio operators spell with."""

from __future__ import annotations

import re

from guard.retrieval.decode import readable

_MORSE_A_TO_M = ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. --"
_MORSE_N_TO_Z = "-. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.."
_MORSE_DIGITS = "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----."
_MORSE_STOPS = "..--.. .-.-.- --..--"
MORSE_CODE = dict(
    zip(
        f"{_MORSE_A_TO_M} {_MORSE_N_TO_Z} {_MORSE_DIGITS} {_MORSE_STOPS}".split(),
        "abcdefghijklmnopqrstuvwxyz0123456789?.,",
        strict=True,
    )
)
"""International Morse by sequence of dots and dashes."""
_MORSE_SIGNS = str.maketrans("–—−_•·∙", "----...")
_MORSE = re.compile(r"(?<![\w.\-])[.\-]{1,6}(?:[ /|\n]+[.\-]{1,6}){3,}(?![\w])")


def morse(text: str) -> str | None:
    """Morse code, letters apart by spaces and words by ``/``, ``|``, a line or a wider gap."""
    found = False

    def one(match: re.Match[str]) -> str:
        nonlocal found
        words = re.split(r"\s*[/|\n]\s*|\s{2,}", match[0])
        plain = " ".join("".join(MORSE_CODE.get(c, "#") for c in word.split()) for word in words)
        if not readable(plain, sure=1000):
            return match[0]
        found = True
        return plain

    result = _MORSE.sub(one, text.translate(_MORSE_SIGNS))
    return result if found else None


_BRAILLE_CELLS = "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵⠀"
_BRAILLE = str.maketrans(_BRAILLE_CELLS, "abcdefghijklmnopqrstuvwxyz ")


def braille(text: str) -> str | None:
    """Braille patterns of the English alphabet."""
    result = text.translate(_BRAILLE)
    return result if result != text else None


_SPOKEN_LIST = (
    "alpha alfa bravo charlie delta echo foxtrot golf hotel india juliet juliett kilo lima mike november "
    "oscar papa quebec romeo sierra tango uniform victor whiskey whisky xray x-ray yankee zulu"
)
SPOKEN = frozenset(_SPOKEN_LIST.split())
"""The radio alphabet."""
_SPOKEN_WORD = "|".join(sorted(SPOKEN, key=len, reverse=True))
_SPOKEN_RUN = re.compile(rf"\b(?:{_SPOKEN_WORD})(?:[\s,]+(?:{_SPOKEN_WORD})){{2,}}\b", re.IGNORECASE)


def spelled(text: str) -> str | None:
    """Words of the radio alphabet, three or more in a row."""
    result = _SPOKEN_RUN.sub(
        lambda match: "".join(word[0] for word in re.split(r"[\s,]+", match[0].lower())), text
    )
    return result if result != text else None
