"""Static embeddings: a text is the weighted mean of its word pieces' vectors.

No network runs at serving time. The vectors come in model2vec's file format, so any such model can
take the place of the one in this package. Reading a prompt costs some ten microseconds, because
ASCII words are looked up in the vocabulary directly; only words outside it go through the tokenizer,
and what comes out is remembered.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Vectors = NDArray[np.float32]
Tokens = NDArray[np.intp]

BUNDLED = Path(__file__).parent / "embeddings"
"""The model that comes with the package; its README names origin and licence."""

WHOLE = 48
"""Word pieces up to which a text is embedded as a whole."""
SHORTEST, LONGEST = 10, 32
"""Word pieces in a window of a longer text; sentences below the first number join the next one."""
_REMEMBERED = 50_000
"""Words outside the vocabulary whose pieces are kept; beyond that they are cut anew each time."""

_TOGETHER = 64
"""Texts whose vectors are looked up at once."""
_BITS = 11
"""Binary places of a unit vector whose products are exact: a float32 holds 24."""

_LONGEST_WORD = 32
"""Characters of a word that is remembered."""

_WORD = re.compile(r"[a-z0-9]+")
_TYPOGRAPHY = dict.fromkeys(map(ord, "‘’‚“”„«»‹›–—…•·′″\u00a0\u202f"), " ")
"""Signs that part words as ASCII punctuation does."""
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+|\n+")


class StaticEncoder:
    """Embeds texts by table look-up; immutable but for a memo of word pieces."""

    def __init__(
        self,
        table: NDArray[np.int8] | Vectors,
        weights: Vectors,
        tokenizer: Tokenizer,
        *,
        bundled: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            table: One row per token id, of any scale.
            weights: What each row is multiplied by.
            tokenizer: Gives token ids; truncation and padding are switched off.
            bundled: Whether this is the package's own model, which the bundled head was fitted to.
        """
        self.bundled = bundled
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._table = table
        self._weights = weights
        self._tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        model = orjson.loads(tokenizer.to_str())
        unknown = model["model"].get("unk_token")
        self._skipped = frozenset(
            token_id
            for token, token_id in vocabulary.items()
            if token == unknown or not any(map(str.isalnum, token))
        )
        self._by_word = model["model"]["type"] == "WordPiece" and bool(
            (model["normalizer"] or {}).get("lowercase")
        )
        words = {w: i for w, i in vocabulary.items() if w.isascii() and w.isalnum() and w == w.lower()}
        self._words: dict[str, int] = words
        self._pieces: dict[str, tuple[int, ...]] = {}

    @classmethod
    def load(cls, folder: Path = BUNDLED) -> StaticEncoder:
        """Read a model2vec folder: ``model.safetensors`` and ``tokenizer.json``.

        Raises:
            OSError: A file is absent.
            ValueError: The tensors are not those of a model2vec model.
        """
        tensors = load_file(folder / "model.safetensors")
        if "embeddings" not in tensors:
            raise ValueError(f"{folder / 'model.safetensors'} holds no tensor 'embeddings'")
        table = tensors["embeddings"]
        if table.dtype != np.int8:
            table = table.astype(np.float32)
        if "mapping" in tensors:
            table = table[tensors["mapping"]]
        weights = tensors.get("weights", np.ones(len(table), np.float32)).astype(np.float32)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(table, weights, tokenizer, bundled=folder == BUNDLED)

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._table.shape[1])

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return len(self._table)

    @property
    def lexicon(self) -> Mapping[str, int]:
        """The vocabulary's whole words by token id, which is about their rank in English."""
        return MappingProxyType(self._words)

    def tokens(self, text: str) -> Tokens:
        """The token ids of a text, without punctuation and unknown characters."""
        return np.array(self._ids(text), np.intp)

    def _ids(self, text: str) -> list[int]:
        if not self._by_word:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            return [i for i in ids if i not in self._skipped]
        if text.isascii() or (text := text.translate(_TYPOGRAPHY)).isascii():
            words = _WORD.findall(text.lower())
        else:
            words = [
                word
                for chunk in text.split()
                for word in (_WORD.findall(chunk.lower()) if chunk.isascii() else (chunk,))
            ]
        known = self._words.get
        found = [known(word, -1) for word in words]
        if -1 not in found:
            return found
        return [
            piece
            for word, token in zip(words, found, strict=True)
            for piece in ((token,) if token >= 0 else self._cut(word))
        ]

    def windows(self, text: str) -> tuple[Tokens, ...]:
        """A short text whole; a long one in windows of whole sentences.

        A request within a document is a sentence or two, which windows cut at fixed places would
        dilute: found are 38 % rather than 16 % of requests among eight ordinary ones, at equal error.
        """
        ids = self._ids(text)
        if len(ids) <= WHOLE:
            return (np.array(ids, np.intp),) if ids else ()
        parts: list[list[int]] = []
        current: list[int] = []
        for sentence in _SENTENCE_END.split(text):
            found = self._ids(sentence)
            for at in range(0, len(found), LONGEST):
                piece = found[at : at + LONGEST]
                if len(current) >= SHORTEST or len(current) + len(piece) > LONGEST:
                    parts.append(current)
                    current = []
                current = current + piece
        parts.append(current)
        return tuple(np.array(part, np.intp) for part in parts if part)

    def _cut(self, word: str) -> tuple[int, ...]:
        pieces = self._pieces.get(word)
        if pieces is None:
            ids = self._tokenizer.encode(word, add_special_tokens=False).ids
            pieces = tuple(i for i in ids if i not in self._skipped)
            if len(self._pieces) < _REMEMBERED and len(word) <= _LONGEST_WORD:
                self._pieces[word] = pieces
        return pieces

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One unit row per text; a text without any word is a row of zeros."""
        return self.means([self.tokens(text) for text in texts])

    def means(self, token_lists: Sequence[Tokens]) -> Vectors:
        """The unit mean vector of each list of tokens; an empty list gives a row of zeros."""
        sums = np.zeros((len(token_lists), self.dimensions), np.float32)
        for at in range(0, len(token_lists), _TOGETHER):
            self._add(token_lists[at : at + _TOGETHER], sums[at : at + _TOGETHER])
        return sums

    def _add(self, token_lists: Sequence[Tokens], rows: Vectors) -> None:
        tokens = np.concatenate(token_lists)
        weights, vectors = self._weights.take(tokens), self._table.take(tokens, axis=0).astype(np.float32)
        start = 0
        for row, end in zip(rows, itertools.accumulate(map(len, token_lists)), strict=True):
            if end > start:
                np.dot(weights[start:end], vectors[start:end], out=row)
                row /= np.float32(max(math.sqrt(row @ row), 1e-12))
            start = end


def exact(vectors: Vectors, longest: float = 1.0) -> Vectors:
    """Vectors rounded so that float32 holds every sum of their products without loss.

    A product of two such matrices has the same bits in whatever order it is summed. So the scores of a
    text depend neither on the texts that are scored with it nor on the processor.

    Args:
        vectors: What is rounded, to a thousandth of ``longest`` or so.
        longest: The length of the longest one; of two that are multiplied, one has unit vectors.
    """
    step = np.float32(2.0 ** (math.ceil(math.log2(longest)) - _BITS))
    rounded: Vectors = np.rint(vectors / step) * step
    return rounded
