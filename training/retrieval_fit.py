"""The two fits behind the retrieval head: a regression on vectors, and one on words, taught by the first.

A few thousand labelled prompts are too few to say what thirty thousand word pieces mean. The teacher, a
sentence transformer, needs far fewer, so it learns the sections from the labels and then marks
unlabelled sentences, from which the words of the head learn what it would say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from guard.retrieval.dense import Tokens, Vectors

PENALTY = 3e-4
"""L2 penalty of the regressions; 1e-4 on the teacher's vectors is a point of recall worse."""
STEPS = 3_000
LABELLED, UNLABELLED = 64, 192
"""Texts of either kind in a step."""
RATE = 3e-3
DECAY = 1e-4
TAUGHT = 0.1
"""Weight of the squared difference from the teacher's log-odds beside the log loss on labels."""
SCALE = 8.0
"""What embeddings are multiplied by, so that their weights move as fast as those of words."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts as a head sees them."""

    rows: Vectors
    """A unit row per text."""
    tokens: tuple[Tokens, ...]
    """The token ids of each text."""

    def __getitem__(self, chosen: NDArray[np.intp]) -> Texts:
        """Some of the texts."""
        return Texts(self.rows[chosen], tuple(self.tokens[number] for number in chosen.tolist()))

    def __add__(self, other: Texts) -> Texts:
        """These and others."""
        return Texts(np.concatenate([self.rows, other.rows]), self.tokens + other.tokens)


@dataclass(frozen=True, eq=False)
class Layer:
    """Log-odds of every section against ordinary text: ``rows @ weights + words + bias``."""

    weights: Vectors
    """Dimensions x sections."""
    words: Vectors
    """Token ids x sections; added up over a text and divided by the square root of its length."""
    bias: Vectors
    """Sections."""

    def odds(self, texts: Texts) -> Vectors:
        """Texts x sections."""
        sums = [self.words[tokens].sum(axis=0) / max(len(tokens), 1) ** 0.5 for tokens in texts.tokens]
        found: Vectors = texts.rows @ self.weights + np.stack(sums) + self.bias
        return found

    def averaged(self, weights: Vectors, bias: Vectors) -> Layer:
        """The mean of this and a layer without words."""
        half = np.float32(0.5)
        return Layer(half * (self.weights + weights), half * self.words, half * (self.bias + bias))


def any_right(logits: torch.Tensor, right: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted log loss of softmax over classes of which any of several may be right.

    Args:
        logits: Texts x classes.
        right: Texts x classes, 1 where a class is right; at least one in every row.
        weight: One number per text.
    """
    chance = torch.log_softmax(logits, dim=1).masked_fill(right == 0, -torch.inf)
    return -(torch.logsumexp(chance, dim=1) * weight).sum() / weight.sum()


def regression(rows: Vectors, right: Vectors, weight: Vectors) -> tuple[Vectors, Vectors]:
    """Softmax regression: log-odds of each class against the last one, as weights and bias.

    Args:
        rows: Labelled texts x dimensions.
        right: Labelled texts x classes, the last one "ordinary".
        weight: One number per labelled text.
    """
    layer = torch.zeros(rows.shape[1], right.shape[1], requires_grad=True)
    bias = torch.zeros(right.shape[1], requires_grad=True)
    known, wanted, counted = torch.tensor(rows), torch.tensor(right), torch.tensor(weight)
    optimizer = torch.optim.LBFGS([layer, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = any_right(known @ layer + bias, wanted, counted) + PENALTY / 2 * (layer**2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    weights, offset = (tensor.detach().numpy() for tensor in (layer, bias))
    return weights[:, :-1] - weights[:, -1:], offset[:-1] - offset[-1]


def learn(
    labelled: Texts, right: Vectors, weight: Vectors, unlabelled: Texts, taught: Vectors, vocabulary: int
) -> Layer:
    """Fit a head to labels and to the teacher's log-odds.

    Args:
        labelled: Texts with labels.
        right: Labelled texts x classes, the last one "ordinary".
        weight: One number per labelled text.
        unlabelled: Texts without labels, at least ``UNLABELLED``.
        taught: The teacher's log-odds of the sections for them.
        vocabulary: Number of token ids.
    """
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    layer = torch.nn.Linear(labelled.rows.shape[1], right.shape[1])
    words = torch.nn.EmbeddingBag(vocabulary, right.shape[1], mode="sum")
    for weights in (layer.weight, words.weight):
        torch.nn.init.zeros_(weights)
    optimizer = torch.optim.AdamW([*layer.parameters(), *words.parameters()], lr=RATE, weight_decay=DECAY)

    def logits(texts: Texts, chosen: NDArray[np.intp]) -> torch.Tensor:
        lists = [texts.tokens[number] for number in chosen.tolist()]
        lengths = np.array([len(tokens) for tokens in lists])
        share = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
        starts = torch.tensor(np.cumsum(lengths) - lengths)
        flat = torch.tensor(np.concatenate(lists))
        found: torch.Tensor = layer(torch.tensor(SCALE * texts.rows[chosen]))
        summed: torch.Tensor = words(flat, starts, per_sample_weights=torch.tensor(share))
        return found + summed

    wanted, counted, goal = torch.tensor(right), torch.tensor(weight), torch.tensor(taught)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        known = generator.choice(len(labelled.tokens), LABELLED, replace=False)
        new = generator.choice(len(unlabelled.tokens), UNLABELLED, replace=False)
        guessed = logits(unlabelled, new)
        loss = any_right(logits(labelled, known), wanted[known], counted[known])
        loss = loss + TAUGHT * ((guessed[:, :-1] - guessed[:, -1:] - goal[new]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    every, each, start = (t.detach().numpy() for t in (layer.weight.T, words.weight, layer.bias))
    return Layer(SCALE * (every[:, :-1] - every[:, -1:]), each[:, :-1] - each[:, -1:], start[:-1] - start[-1])
