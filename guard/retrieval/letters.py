"""Letter statistics of English, to tell encoded text from plain text without a word list.

A table of letter-pair likelihoods says how English a text reads. The difference between the table
after a transformation and the table itself (a log-likelihood ratio, in nats) says whether a text
reads better *after* the transformation: positive over a stretch of some twenty characters means
that somebody wrote it backwards or shifted the alphabet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float32]

WINDOW = 20
"""Letter pairs summed when looking for a stretch; a shorter text is taken whole."""
THRESHOLD = 14.0
"""Nats of gain from which a stretch counts as transformed. Of 5,200 plain prompts 0.4 % come over it, of
the same in rot13 or backwards 99.9 %."""

_BREAK = 26
"""The class of everything that is not a letter."""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = (
    "zcWZzgbzWzbSaHzezPSKkhlzWzJ",
    "LjzzEzzzUzzQzzGzzPfpOzzzSzV",
    "JzizMzzGWzQUzzIzzTnRazzzmzd",
    "TzzkKzkzSzzirzMzzYWzjvzzgz7",
    "TydUXmrzlzvYfRmfzKOWygmfmzB",
    "RzzzQTzzKzzYzzEzzPxSbzzzzzG",
    "SzzzGzeORzzezaUzzSbzTzzzozC",
    "IwzzBzzzMzzzzzHzzfyblzzzhzL",
    "inQXZfZzzznTbDYhzYNKzZzvzyP",
    "MzzzGzzzlrzzzzCzzhhzCzrzzrf",
    "lzzyAyqzMzzkmUuzzwNwnzzzpzC",
    "LzzPIjzzMzkLqzOfzzZfhvzzWzI",
    "JbzzEzzzQzzzexQWzzczbzzzKzH",
    "bzbJNzMzXzkozmVzzzVNjpzzizC",
    "loiekUlzizjWULZazJZVKgQxxzJ",
    "LzzzKzzYTzzJzzNZzOXYWzzzizJ",
    "zzzzzzjpzpzbzzzzpzzz1jjzzzj",
    "QzkYHzizNzfqeePzzlRXdmzzZzD",
    "ayczOzzTWzlkpwWfzzZJazmztz8",
    "WzrzLzzESzzpyzNzzYVhhzkzhzC",
    "cfcaWwWzXzzNWMsTzHMJzzzzqzX",
    "Rzzz4zzzJzzzzzRzzzzzzzzzrzj",
    "MzzwNyzDLzzzzWNzzSezzzzzzzI",
    "SzZzRzzuSzuzqzuDzzfFezzukzF",
    "swyzVzzzkzzolsPlzqTnzzuzzz3",
    "RzlzEzzzMllRzzMzzlzzzzzlZLH",
    "MXUXeUcVQvmaTcTVyaPLjnQznzz",
)
"""``-10 ln P(second | first)`` as one digit of base 62 each: rows and columns a-z, then a break.

Counted over this project's own policy and prompts: ``python -m training.retrieval_data``.
"""

ENGLISH: Table = np.array([[-_DIGITS.index(c) / 10 for c in row] for row in _PAIRS], np.float32)
"""``ENGLISH[a, b]`` is ``ln P(b | a)`` for letter classes 0-25 and 26, a break."""


def _classes() -> NDArray[np.intp]:
    classes = np.full(256, _BREAK, np.intp)
    for letter in range(26):
        classes[ord("a") + letter] = classes[ord("A") + letter] = letter
    return classes


_CLASS = _classes()


def _gain(to: NDArray[np.intp]) -> Table:
    """Gain of reading each letter ``i`` as ``to[i]``."""
    table: Table = ENGLISH[np.ix_(to, to)] - ENGLISH
    return table


REVERSED: Table = ENGLISH.T - ENGLISH
"""Gain of reading from right to left."""
SUBSTITUTIONS: dict[str, NDArray[np.intp]] = {
    "rot13": np.array([*range(13, 26), *range(13), _BREAK], np.intp),
    "atbash": np.array([*range(25, -1, -1), _BREAK], np.intp),
}
"""Where each letter goes, by the name of the substitution; each is its own inverse."""
SUBSTITUTED: dict[str, Table] = {name: _gain(to) for name, to in SUBSTITUTIONS.items()}
"""Gain of undoing each substitution."""

_SUSPECTS: Table = np.stack([REVERSED, *SUBSTITUTED.values()]).reshape(len(SUBSTITUTIONS) + 1, -1)


def _most() -> Table:
    """The best that any suspect makes of two bytes that follow each other, as a little-endian number."""
    most = _SUSPECTS.max(axis=0).reshape(_BREAK + 1, _BREAK + 1).T[np.ix_(_CLASS, _CLASS)]
    most[0], most[:, 0] = most[0].clip(0), most[:, 0].clip(0)
    most[0, 0] = 0
    table: Table = most.ravel()
    return table


_MOST = _most()
"""An upper bound, below which nine prompts in ten stay. Next to NUL, which sets texts apart, it is never
less than nothing."""
_APART = b"\0" * WINDOW


def classes(text: str) -> NDArray[np.intp]:
    """One class per character: 0-25 for a-z in either case, 26 for anything else."""
    return _CLASS[np.frombuffer(text.encode("latin-1", "replace"), np.uint8)]


def gains(letters: NDArray[np.intp], table: Table) -> NDArray[np.float32]:
    """The gain of each pair of neighbours, in nats; one shorter than ``letters``."""
    return table[letters[:-1], letters[1:]]


def best_stretch(values: NDArray[np.float32]) -> float:
    """The largest sum over ``WINDOW`` neighbours, or the whole sum where there are fewer."""
    if len(values) <= WINDOW:
        return float(values.sum())
    sums = values.cumsum(dtype=np.float64)
    return max(float(sums[WINDOW - 1]), float((sums[WINDOW:] - sums[:-WINDOW]).max()))


def transformed(texts: Sequence[str]) -> list[bool]:
    """Whether some stretch of a text reads better backwards or substituted than as it stands.

    Args:
        texts: One or more. All of them are looked at in one go, since most prompts of a busy service end
            here, and only those that may be transformed once more by themselves.
    """
    every = [text.encode("latin-1", "replace") for text in texts]
    return [
        bound > THRESHOLD and _is_transformed(text) for text, bound in zip(texts, _bounds(every), strict=True)
    ]


def _bounds(texts: Sequence[bytes]) -> list[float]:
    """The most that any stretch of each text can gain."""
    joined = _APART.join((b"", *texts, b""))
    pairs = np.ndarray(len(joined) - 1, "<u2", joined, strides=(1,))
    sums = _MOST.take(pairs).cumsum(dtype=np.float64)
    lengths = np.array([len(text) + WINDOW for text in texts])
    best = np.maximum.reduceat(sums[WINDOW:] - sums[:-WINDOW], lengths.cumsum() - lengths)
    return [float(gain) for gain in best]


def _is_transformed(text: str) -> bool:
    letters = classes(text)
    if len(letters) < 6:
        return False
    gained = _SUSPECTS.take(letters[:-1] * (_BREAK + 1) + letters[1:], axis=1)
    return any(best_stretch(values) > THRESHOLD for values in gained)


def english(text: str) -> float:
    """Mean ``ln P`` per letter pair: English prose is near -2.4, random letters below -4.5."""
    letters = classes(text)
    if len(letters) < 2:
        return -10.0
    return float(gains(letters, ENGLISH).mean())
