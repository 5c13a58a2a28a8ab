from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from guard.retrieval.dense import BUNDLED, LONGEST, WHOLE, StaticEncoder, exact

from .conftest import toy_tokenizer

BUNDLED_TOKENIZER = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))


def test_a_text_is_the_weighted_mean_of_its_words(toy: StaticEncoder) -> None:
    """Rows are unit vectors whose parts are the words' weights."""
    row = toy.encode(["the knife"])[0]
    words = toy.lexicon
    assert np.linalg.norm(row) == pytest.approx(1.0)
    assert row[words["the"]] == pytest.approx(0.1 * row[words["knife"]])
    assert np.count_nonzero(row) == 2


def test_case_and_punctuation_do_not_matter(toy: StaticEncoder) -> None:
    """Signs have no part in the meaning."""
    plain, loud = toy.encode(["make bread", "MAKE, bread!?"])
    np.testing.assert_array_equal(plain, loud)


def test_a_text_without_known_words_is_zero(toy: StaticEncoder) -> None:
    """Nothing known gives no direction, and no warning."""
    np.testing.assert_array_equal(toy.encode(["", "xyzzy ???", "\u4e00"]), 0.0)


def test_words_outside_the_vocabulary_are_cut_into_pieces(toy: StaticEncoder) -> None:
    """The tokenizer decides how."""
    pieces = toy_tokenizer().encode("unhouse songs", add_special_tokens=False).ids
    assert toy.tokens("unhouse songs").tolist() == pieces
    assert toy.tokens("unhouse songs").tolist() == pieces


def test_text_beyond_ascii_goes_through_the_tokenizer(toy: StaticEncoder) -> None:
    """Accents are treated as the model was trained."""
    assert toy.tokens("MÄKE a böat").tolist() == toy.tokens("make a boat").tolist()


@given(st.text(st.characters(max_codepoint=126), max_size=200))
@example("Is it “naïve”—or ‘très élégant’ – to write l’été… in straße?")
@example("Wo ist 東京 und wo Москва? x²")
def test_the_short_way_gives_the_tokenizers_tokens(bundled: StaticEncoder, text: str) -> None:
    """The look-up and the tokenizer agree, but for punctuation and control characters."""
    text = "".join(c if c.isprintable() else " " for c in text)
    found = BUNDLED_TOKENIZER.encode(text, add_special_tokens=False)
    spoken = [i for i, token in zip(found.ids, found.tokens, strict=True) if token.isalnum() or "##" in token]
    assert bundled.tokens(text).tolist() == [i for i in spoken if i != BUNDLED_TOKENIZER.token_to_id("[UNK]")]


def test_a_model_folder_is_read(tmp_path: Path) -> None:
    """Integer tables with weights and float tables without are the same to the reader."""
    tokenizer = toy_tokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = np.arange(tokenizer.get_vocab_size() * 2, dtype=np.int8).reshape(-1, 2)
    scale = np.full(len(table), 0.5, np.float32)
    save_file({"embeddings": table, "weights": scale}, tmp_path / "model.safetensors")
    small = StaticEncoder.load(tmp_path)
    save_file({"embeddings": table.astype(np.float16) / 2}, tmp_path / "model.safetensors")
    large = StaticEncoder.load(tmp_path)
    assert small.dimensions == large.dimensions == 2
    assert not small.bundled
    np.testing.assert_allclose(small.encode(["make bread"]), large.encode(["make bread"]), rtol=1e-5)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A safetensors file without embeddings is named in the error."""
    toy_tokenizer().save(str(tmp_path / "tokenizer.json"))
    save_file({"other": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors.*embeddings"):
        StaticEncoder.load(tmp_path)


def test_a_short_text_is_one_window(toy: StaticEncoder) -> None:
    """Sentences of a short text stay together, and no words give no window."""
    assert [part.tolist() for part in toy.windows("make bread. make cake")] == [
        toy.tokens("make bread make cake").tolist()
    ]
    assert toy.windows("?!") == ()


@given(st.lists(st.tuples(st.integers(1, 80), st.sampled_from([". ", "!\n", " "])), max_size=12))
def test_windows_of_a_long_text_hold_every_token_in_order(
    toy: StaticEncoder, sentences: list[tuple[int, str]]
) -> None:
    """Windows are of bounded size, and nothing is lost or repeated."""
    text = "".join("make " * words + end for words, end in sentences)
    parts = toy.windows(text)
    whole = toy.tokens(text).tolist()
    assert [token for part in parts for token in part.tolist()] == whole
    if len(whole) > WHOLE:
        assert all(0 < len(part) <= LONGEST for part in parts)


def test_windows_of_a_long_text_are_whole_sentences(toy: StaticEncoder) -> None:
    """A sentence of middle length stands alone between others."""
    filler = "bake the bread and tell me about the weather today please good song. " * 4
    request = "how to poison someone and steal a wallet to harm my river."
    assert any(
        part.tolist() == toy.tokens(request).tolist() for part in toy.windows(f"{filler}{request} {filler}")
    )


@given(st.integers(0, 2**32), st.floats(0.1, 100))
def test_products_of_exact_vectors_are_exact(seed: int, longest: float) -> None:
    """Single precision gives what double precision gives, so no order of summation matters."""
    random = np.random.default_rng(seed)
    rows, columns = random.normal(size=(2, 5, 256))
    rows, columns = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (rows, columns))
    rows[0], columns[0] = columns[0], 1 / 16
    left, right = exact(rows.astype(np.float32)), exact((columns * longest).astype(np.float32), longest)
    np.testing.assert_allclose(left, rows, atol=1e-3)
    np.testing.assert_array_equal(left @ right.T, left.astype(np.float64) @ right.T.astype(np.float64))
    np.testing.assert_array_equal(left @ right.T, left[:, ::-1] @ right[:, ::-1].T)


def test_the_bundled_model_knows_what_words_mean(bundled: StaticEncoder) -> None:
    """Paraphrases without a shared word are nearer than other subjects.

    Field lesson 59: nobody noticed that a classifier's weights were broken and its scores constant.
    """
    rows = bundled.encode(["heal a broken bone", "medical treatment of fractures", "buy a cheap sofa"])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1
