from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guard.policy.load import load_policy
from guard.retrieval.head import Head
from training import retrieval_fit
from training.retrieval_data import POLICY
from training.retrieval_fit import Layer, Texts, learn, regression
from training.retrieval_head import store

ATTACK, POISON, VENOM, CAKE, PIE = range(5)
CLASSES = 3
"""Cyber attacks, poisons, ordinary."""
VECTORS = np.eye(CLASSES, dtype=np.float32)[[0, 1, 1, 2, 2]]
"""The teacher knows that venom is poison and a pie is a cake."""
LABELS = np.eye(CLASSES, dtype=np.float32)
KNOWN = [ATTACK, POISON, CAKE]


def _texts(*words: int) -> Texts:
    return Texts(np.zeros((len(words), 2), np.float32), tuple(np.array([word]) for word in words))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy texts need no long training."""
    monkeypatch.setattr(retrieval_fit, "STEPS", 200)
    monkeypatch.setattr(retrieval_fit, "RATE", 0.1)
    monkeypatch.setattr(retrieval_fit, "LABELLED", 2)
    monkeypatch.setattr(retrieval_fit, "UNLABELLED", 2)


def test_words_that_no_labelled_text_has_are_learnt_from_the_teacher() -> None:
    """What the teacher makes of the labels carries over to its unlabelled texts."""
    weight = np.ones(len(KNOWN), np.float32)
    teacher, bias = regression(VECTORS[KNOWN], LABELS, weight)
    marks = VECTORS[[VENOM, PIE]] @ teacher + bias
    layer = learn(_texts(*KNOWN), LABELS, weight, _texts(VENOM, PIE), marks, vocabulary=6)
    odds = layer.odds(_texts(VENOM, PIE, ATTACK))
    assert odds[0].argmax() == 1
    assert odds[0, 1] > 0
    assert odds[1].max() < 0
    assert odds[2].argmax() == 0
    assert layer.words.shape == (6, CLASSES - 1)


def test_a_label_of_two_sections_pulls_towards_both() -> None:
    """Either is right, so neither is unlearnt."""
    both = np.array([[1, 1, 0], [0, 0, 1]], np.float32)
    weights, bias = regression(VECTORS[[POISON, CAKE]], both, np.ones(2, np.float32))
    odds = VECTORS[[POISON, CAKE]] @ weights + bias
    assert odds[0].min() > 0
    assert odds[1].max() < 0


def test_what_is_stored_is_what_was_learnt(tmp_path: Path) -> None:
    """Weights in any order of memory; words to half a step of one byte."""
    weights, words = (np.arange(size, dtype=np.float32).reshape(2, -1).T for size in (8, 6))
    layer = Layer(weights, words, np.ones(2, np.float32))
    policy = load_policy(POLICY)
    path = tmp_path / "head.safetensors"
    store(layer, replace(policy, sections=policy.sections[:2]), 0.5, path)
    head = Head.load(path)
    np.testing.assert_array_equal(head.weights, layer.weights)
    np.testing.assert_allclose(head.words * head.unit, layer.words, atol=head.unit / 2)
    assert (head.zero, head.bias.tolist()) == (0.5, [1.0, 1.0])


def test_texts_are_chosen_with_their_tokens() -> None:
    """Rows and tokens stay together."""
    texts = Texts(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), (np.array([3]), np.array([4, 5])))
    chosen = texts[np.array([1])]
    assert chosen.rows.tolist() == [[0.0, 1.0]]
    assert [tokens.tolist() for tokens in chosen.tokens] == [[4, 5]]
