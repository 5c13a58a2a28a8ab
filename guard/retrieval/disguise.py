"""Disguises: the same words in other characters, or with something put between their letters.

``clean`` undoes what never carries meaning in ordinary text (invisible characters, stacked marks,
foreign letters that only look Latin). The decoders undo what ordinary text may contain as well
(digits for letters, single letters in a row), so each checks that words come out.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Mapping

from guard.retrieval import letters

Lexicon = Mapping[str, int]
"""Lower-case words by rank, commonest first; a tokenizer's vocabulary has about that order."""

_LONGEST_RUN = 2_000
"""Letters of a text that are set apart into words; beyond that they stay joined."""
_LONGEST_WORD = 16
_UNKNOWN_LETTER = 14.0
"""Cost of a letter outside every word, in nats; the rarest word costs 10.3."""

_CYRILLIC = dict(
    zip(
        "аАвВеЕзЗіІїјЈкКмМнНоОрРсСтТуУхХѕЅһҺԁԛԝѡьЬгп",
        "aAbBeE33iIijJkKmMhHoOpPcCtTyYxXsShHdqwwbbrn",
        strict=True,
    )
)
_GREEK = dict(zip("αΑβΒγεΕζΖηΗιΙκΚΜνΝοΟρΡςστΤυΥχΧω", "aAbByeEzZnHiIkKMvNoOpPcotTuYxXw", strict=True))
_OTHER = dict(
    zip("ıɑɡɩʟɴʀʏʙɢɪᴀᴄᴅᴇꜰʜᴊᴋᴍᴏᴘꜱᴛᴜᴠᴡᴢօսհցոꓐꓑꓓꓔ", "iagilnrybgiacdefhjkmopstuvwzouhgnBPDT", strict=True)
)
LATIN = str.maketrans({**_CYRILLIC, **_GREEK, **_OTHER})
"""Letters of other scripts by the Latin letter that they look like (after Unicode's confusables)."""

_BOXED = {base + letter: chr(ord("A") + letter) for base in (0x1F150, 0x1F170) for letter in range(26)}
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef\U000e0000-\U000e007f]+"
)
_SPLIT_WORD = re.compile(rf"[A-Za-z]{_INVISIBLE.pattern}[A-Za-z]")
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_STACKED = re.compile("(?<=[A-Za-z\\s])[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+")
_LOOKALIKE = re.compile(f"[{''.join(chr(code) for code in LATIN)}]")
_WORD = re.compile(r"[^\W\d_]+")
_GREEK_LETTER = re.compile("[\u0370-\u03ff]")
_LATIN_LETTER = re.compile(r"[A-Za-z]")


def clean(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with invisible characters, stacked marks and lookalike letters undone.

    Returns:
        The cleaned text, and the names of the disguises that were found in it.
    """
    if text.isascii():
        return text, ()
    found: list[str] = []
    hidden = "".join(_TAGS.findall(text))
    if hidden:
        found.append("tags")
        text += " " + "".join(chr(ord(c) - 0xE0000) for c in hidden)
    if _SPLIT_WORD.search(text):
        found.append("invisible")
    text = _STACKED.sub("", _INVISIBLE.sub("", text))
    text = unicodedata.normalize("NFKC", text).translate(_BOXED)
    if _LOOKALIKE.search(text):
        folded = _fold(text)
        if folded != text:
            found.append("homoglyphs")
            text = folded
    return text, tuple(found)


def _fold(text: str) -> str:
    """Words that mix scripts, or that look Latin within a Latin text, in Latin letters."""
    mostly_latin = len(_LATIN_LETTER.findall(text)) > 0.5 * sum(map(str.isalpha, text))

    def one(match: re.Match[str]) -> str:
        word = match[0]
        if word.isascii() or (len(word) < 3 and _GREEK_LETTER.search(word)):
            return word  # Greek letters by themselves are physics
        latin = word.translate(LATIN)
        mixed = _LATIN_LETTER.search(word) is not None
        return latin if latin.isascii() and (mixed or mostly_latin) else word

    return _WORD.sub(one, text)


_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s"}
_LEET_AS_I = str.maketrans({**_LEET, "1": "i", "!": "i", "|": "i"})
_LEET_WORD = re.compile(r"[\w@$!|]{2,40}")
_LEET_SHAPE = re.compile(
    r"[A-Za-z][0134578@$!|]+[A-Za-z]"  # b0mb
    r"|(?<![^\s\"'])[0134578][A-Za-z]{3}"  # 3xit
    r"|[A-Za-z]{2}[034](?![^\s.,?!\"'])"  # her0
)
_LEET_ANY = re.compile(r"[0134578@$!|].*[A-Za-z]|[A-Za-z].*[0134578@$|]")
_LEET_HABIT = 3
"""Words undone from which any word with a digit or sign is tried."""
_LEET_WORDS = 400
"""Different words that are tried in one text."""
_LEET_ENGLISH = -2.9
"""Mean ``ln P`` of letter pairs that a word outside the lexicon must reach after the exchange."""


def leetspeak(text: str, lexicon: Lexicon) -> str | None:
    """Digits and signs in place of letters, where that makes a word."""
    undone: dict[str, str] = {}

    def one(match: re.Match[str]) -> str:
        word = match[0]
        after = text[match.end() : match.end() + 2]
        if not shape.search(word) or ("@" in word and after.startswith(".") and after[1:].isalnum()):
            return word  # the latter is a mail address
        if word not in undone and len(undone) < _LEET_WORDS:
            undone[word] = _unleeted(word, lexicon)
        return undone.get(word, word)

    shape = _LEET_SHAPE
    result = _LEET_WORD.sub(one, text)
    if sum(word != plain for word, plain in undone.items()) >= _LEET_HABIT:
        shape = _LEET_ANY
        result = _LEET_WORD.sub(one, text)
    return result if result != text else None


def _unleeted(word: str, lexicon: Lexicon) -> str:
    core = word.rstrip("!")
    doubtful = [at for at, sign in enumerate(core) if sign in "1!|"][:4]
    plain = core.translate(_LEET_AS_I)
    if not plain.isalpha():
        return word
    options = []
    for letters_ in itertools.product("il", repeat=len(doubtful)):
        option = list(plain)
        for at, letter in zip(doubtful, letters_, strict=True):
            option[at] = letter
        options.append("".join(option))
    found = [option for option in options if option.lower() in lexicon]
    if not found and len(core) > 3:
        found = [option for option in options if letters.english(f" {option} ") > _LEET_ENGLISH]
    return found[0] + word[len(core) :] if found else word


_SPACED = re.compile(r"(?<!\S)\S(?:\s{1,4}\S){3,}(?!\S)|(?<![^\s\"'(])\w(?:[.\-_*·|/,]\w){3,}(?!\w)")
_SIGNS_BETWEEN = re.compile(r"(?<=\w)[.\-_*·|/,](?=\w)")
_SPACE_BETWEEN = re.compile(r"(?<=\S)\s(?=\S)")


def spaced(text: str, lexicon: Lexicon) -> str | None:
    """Letters set apart (``b o m b``, ``b.o.m.b``); wider gaps are the gaps between words."""
    left = _LONGEST_RUN

    def words(match: re.Match[str]) -> str:
        nonlocal left
        left -= len(match[0])
        return segmented(match[0], lexicon) if left >= 0 else match[0]

    def one(match: re.Match[str]) -> str:
        run = match[0]
        plain = " ".join((_SPACE_BETWEEN if run[1].isspace() else _SIGNS_BETWEEN).sub("", run).split())
        joined = plain.replace(" ", "")
        if sum(map(str.isalpha, joined)) < 0.6 * len(joined) or len(set(joined)) < 3:
            return run
        return re.sub(r"(?<!\w)[^\W\d_]{2,}(?!\w)", words, plain)

    result = _SPACED.sub(one, text)
    return result if result != text else None


def segmented(joined: str, lexicon: Lexicon) -> str:
    """Words run together, set apart again by the likeliest split; as it stands if none is found.

    A word's likelihood is taken from its rank (Zipf's law), a letter outside every word is dear.
    """
    low = joined.lower()
    if low in lexicon or not lexicon:
        return joined
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(low) + 1):
        options = [(best[end - 1][0] + _UNKNOWN_LETTER, end - 1)]
        for start in range(max(0, end - _LONGEST_WORD), end):
            rank = lexicon.get(low[start:end])
            if rank is not None and (end - start > 1 or low[start] in "ai"):
                options.append((best[start][0] + math.log(rank + 10), start))
        best.append(min(options))
    cuts = [len(low)]
    while cuts[-1] > 0:
        cuts.append(best[cuts[-1]][1])
    return " ".join(low[a:b] for a, b in itertools.pairwise(reversed(cuts)))
