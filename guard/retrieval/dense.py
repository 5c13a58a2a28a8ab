"""Static embeddings: a text is the weighted mean of its word pieces' vectors.

No network runs at serving time. The vectors come in model2vec's file format, so any such model can
take the place of the one in this package. Reading a prompt costs some ten microseconds, because
ASCII words are looked up in the vocabulary directly; only words outside it go through the tokenizer,
and what comes out is remembered.
"""

from __future__ import annotations

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

WINDOW = 32
"""Word pieces in one window of a long text."""
WHOLE = 48
"""Word pieces up to which a text is embedded as a whole and not in windows."""
_REMEMBERED = 50_000
"""Words outside the vocabulary whose pieces are kept; beyond that they are cut anew each time."""

_WORD = re.compile(r"[a-z0-9]+")


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
        if not (self._by_word and text.isascii()):
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
            return np.array([i for i in ids if i not in self._skipped], np.intp)
        words = _WORD.findall(text.lower())
        known = self._words.get
        found = [known(word, -1) for word in words]
        if -1 in found:
            found = [
                piece
                for word, token in zip(words, found, strict=True)
                for piece in ((token,) if token >= 0 else self._cut(word))
            ]
        return np.array(found, np.intp)

    def _cut(self, word: str) -> tuple[int, ...]:
        pieces = self._pieces.get(word)
        if pieces is None:
            ids = self._tokenizer.encode(word, add_special_tokens=False).ids
            pieces = tuple(i for i in ids if i not in self._skipped)
            if len(self._pieces) < _REMEMBERED:
                self._pieces[word] = pieces
        return pieces

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One unit row per text; a text without any word is a row of zeros."""
        return self.means([self.tokens(text) for text in texts])

    def means(self, token_lists: Sequence[Tokens]) -> Vectors:
        """The unit mean vector of each list of tokens; an empty list gives a row of zeros."""
        sums = np.zeros((len(token_lists), self.dimensions), np.float32)
        for row, tokens in zip(sums, token_lists, strict=True):
            if len(tokens):
                np.dot(self._weights[tokens], self._table[tokens].astype(np.float32), out=row)
        return _unit(sums)


def windows(tokens: Tokens) -> tuple[Tokens, ...]:
    """A short text whole; a long one in windows of ``WINDOW`` tokens that overlap by half.

    A request of up to half a window stands whole in at least one of them.
    """
    if len(tokens) <= WHOLE:
        return (tokens,)
    step = WINDOW // 2
    return tuple(tokens[at : at + WINDOW] for at in range(0, len(tokens) - step, step))


def _unit(rows: Vectors) -> Vectors:
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit: Vectors = rows / np.maximum(norms, 1e-12)[:, None]
    return unit
