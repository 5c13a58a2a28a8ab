"""A toy encoder, in which every word is its own direction, and the bundled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from guard.policy.load import load_policy
from guard.policy.model import Policy
from guard.retrieval.dense import StaticEncoder
from guard.retrieval.hybrid import Retriever

WORDS = (
    "how to a the is my make build repair boat car knife poison cake bread garden river song paint "
    "harm someone kill steal wallet money weather today good please tell me about"
).split()
PIECES = ("##s", "##ing", "un", "##house", ".", "?", "!", "é")


def toy_tokenizer() -> Tokenizer:
    """A lower-casing word-piece tokenizer over a handful of words."""
    vocabulary = {token: n for n, token in enumerate(("[UNK]", *WORDS, *PIECES))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


@pytest.fixture(scope="session")
def toy() -> StaticEncoder:
    """Each word has a direction of its own; articles weigh little."""
    tokenizer = toy_tokenizer()
    size = tokenizer.get_vocab_size()
    weights = np.ones(size, np.float32)
    for word in ("how", "to", "a", "the", "is", "my"):
        weights[tokenizer.token_to_id(word)] = 0.1
    return StaticEncoder(np.eye(size, dtype=np.float32), weights, tokenizer)


@pytest.fixture(scope="session")
def bundled() -> StaticEncoder:
    """The encoder that ships."""
    return StaticEncoder.load()


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default policy."""
    return load_policy(Path(__file__).parents[3] / "specs/default")


@pytest.fixture(scope="session")
def retriever(policy: Policy, bundled: StaticEncoder) -> Retriever:
    """Over the default policy, as it serves."""
    return Retriever.build(policy, bundled)
