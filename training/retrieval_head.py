"""Fit the retrieval head and choose the ordinary sample that ship in guard/retrieval/embeddings.

    python -m training.retrieval_head                     # with the public sets under ../shared/data
    DATA_DIR=... python -m training.retrieval_head

A softmax layer over the sections of the default policy and a class "ordinary", on the bundled
embeddings, learnt from two thirds of the labelled prompts and the policy's own passages. Where a row has
several right sections, any of them counts. The zero of the margins and the numbers printed come from
cross-validation within those two thirds; ``tests/bench/retrieval.py`` measures on the rest. A minute.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors.numpy import save_file

from guard.policy.load import load_policy
from guard.retrieval.background import BUNDLED as ORDINARY
from guard.retrieval.background import Background
from guard.retrieval.dense import StaticEncoder
from guard.retrieval.head import BUNDLED as HEAD
from guard.retrieval.hybrid import COMPANY
from guard.retrieval.index import Entry, Query, passages
from guard.retrieval.scorer import WINDOWS, TextScorer
from training.retrieval_data import POLICY, ROOT, Labelled, own_prompts, public_prompts

WEIGHT = {
    "pair-harm": 1.0,
    "pair-ok": 0.5,  # the innocent twin may get the section, it need not
    "ordinary": 2.0,  # there are few of them
    "star-1": 1.0,
    "or-bench": 0.3,  # labels fit only roughly
    "openai-moderation": 0.3,
    "mmlu": 0.3,  # some of them do touch a section
    "math": 0.3,
    "passage": 1.0,
}
DECAY = 3e-4
"""L2 penalty on the weights; 1e-4 and 1e-3 are a point of recall worse."""
STEPS, RATE, MOMENTUM = 600, 8.0, 0.95
MIX = 4.0
"""Log-odds per unit of text margin; 2 and 8 are as good within half a point."""
TARGET = 0.12
"""Share of ordinary prompts that may get a section in cross-validation; the promise is 0.15."""

Matrix = NDArray[np.float64]


def fit(rows: Matrix, right: Matrix, weight: Matrix) -> tuple[Matrix, Matrix]:
    """Softmax regression in which any of several classes may be right.

    Args:
        rows: Prompts x dimensions.
        right: Prompts x classes, 1 where a class is right.
        weight: One number per prompt.

    Returns:
        Weights (dimensions x classes) and bias (classes).
    """
    layer, bias = np.zeros((rows.shape[1], right.shape[1])), np.zeros(right.shape[1])
    speed, bias_speed = np.zeros_like(layer), np.zeros_like(bias)
    share = weight / weight.sum()
    for _ in range(STEPS):
        logits = rows @ (layer + MOMENTUM * speed) + bias + MOMENTUM * bias_speed
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance = odds / odds.sum(axis=1, keepdims=True)
        wanted = chance * right
        wanted /= wanted.sum(axis=1, keepdims=True)
        slope = (chance - wanted) * share[:, None]
        speed = MOMENTUM * speed - RATE * (rows.T @ slope + DECAY * (layer + MOMENTUM * speed))
        bias_speed = MOMENTUM * bias_speed - RATE * slope.sum(axis=0)
        layer += speed
        bias += bias_speed
    return layer, bias


def recall(margins: Matrix, right: Matrix, chosen: NDArray[np.bool_]) -> float:
    """Share of the chosen prompts of which a right section is among the three given."""
    top = np.argsort(-margins, axis=1)[:, :3]
    best = np.take_along_axis(margins, top, axis=1)
    given = (best[:, :1] > 0) & (best > best[:, :1] - COMPANY)
    hit = (np.take_along_axis(right, top, axis=1) > 0) & given
    return float(hit[chosen].any(axis=1).mean())


def main() -> None:
    """Cross-validate, fit, store."""
    policy = load_policy(POLICY)
    encoder = StaticEncoder.load()
    data_dir = Path(os.environ.get("DATA_DIR", ROOT.parent / "shared/data"))
    labelled = [row for row in (*own_prompts(), *public_prompts(data_dir)) if not row.held_out]
    ids = [section.id for section in policy.sections]
    sections = [Entry.of(section, encoder) for section in policy.sections]

    tokens = [encoder.tokens(row.text) for row in labelled]
    rows = encoder.means(tokens)
    right = _right(labelled, ids)
    source = np.array([row.source for row in labelled])
    fold = np.array([row.fold for row in labelled])
    weight = np.array([WEIGHT[name] for name in source])
    ordinary = source == "ordinary"
    passage_rows = np.concatenate([entry.rows for entry in sections])
    passage_right = np.zeros((len(passage_rows), len(ids) + 1))
    owner = np.repeat(np.arange(len(ids)), [len(passages(section)) for section in policy.sections])
    passage_right[np.arange(len(owner)), owner] = 1

    def learnt(chosen: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
        layer, bias = fit(
            np.concatenate([rows[chosen], passage_rows]).astype(np.float64),
            np.concatenate([right[chosen], passage_right]),
            np.concatenate([weight[chosen], np.full(len(owner), WEIGHT["passage"])]),
        )
        return layer[:, :-1] - layer[:, -1:], bias[:-1] - bias[-1]

    text = np.zeros((len(rows), len(ids)))
    odds = np.zeros((len(rows), len(ids)))
    for part in range(3):
        seen, new = fold != part, np.flatnonzero(fold == part)
        sample = [row.text for row, use in zip(labelled, seen & ordinary, strict=True) if use]
        score = TextScorer(sections, Background.of(sample, encoder), encoder.vocabulary)
        for at in range(0, len(new), WINDOWS):
            some = new[at : at + WINDOWS]
            text[some] = score(Query(rows[some], tuple(tokens[n] for n in some)))
        layer, bias = learnt(seen)
        odds[new] = rows[new] @ layer + bias
    odds += MIX * np.maximum(text, -1.0)
    zero = float(np.quantile(odds[ordinary].max(axis=1), 1 - TARGET))
    scale = float(odds.max(axis=1).std() / text.max(axis=1).std())
    for name, margins in (("text", text), ("head", (odds - zero) / scale)):
        print(f"{name}: cross-validated share of prompts")
        for kind in dict.fromkeys(source.tolist()):
            chosen = source == kind
            given = float((margins[chosen].max(axis=1) > 0).mean())
            found = recall(margins, right[:, :-1], chosen) if right[chosen, :-1].any() else float("nan")
            print(f"  {kind:20} {chosen.sum():5d} rows: some section {given:.3f}, a right one {found:.3f}")

    layer, bias = learnt(np.ones(len(rows), bool))
    save_file(
        {"weights": layer.astype(np.float32), "bias": bias.astype(np.float32)},
        HEAD,
        metadata={
            "sections": orjson.dumps([[s.id, s.title] for s in policy.sections]).decode(),
            "mix": str(MIX),
            "zero": str(zero),
            "scale": str(scale),
        },
    )


def _right(labelled: Sequence[Labelled], ids: Sequence[str]) -> Matrix:
    right = np.zeros((len(labelled), len(ids) + 1))
    for number, row in enumerate(labelled):
        for section in row.sections:
            right[number, ids.index(section)] = 1
        right[number, -1] = not row.sections
    return right


def write_ordinary() -> None:
    """Store the ordinary prompts that are not held out."""
    texts = [row.text for row in own_prompts() if row.source == "ordinary" and not row.held_out]
    ORDINARY.write_bytes(orjson.dumps(texts, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    write_ordinary()
    main()
