"""Prompts that a model writes, seeded by clause: pairs on both sides of a boundary that differ in one fact.

The writer endpoint gets the two clauses of each boundary, hand-written pairs of their section as examples,
and a phrasing by lot. The rulings of what it writes are its opinion, as an import's are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from string import Template
from typing import Any, NamedTuple

from guard.policy.model import Clause, Policy, Ruling
from training.boundaries import Boundary, boundaries
from training.decisive import decisive_words
from training.drafts import Draft, as_drafts, read_drafts, response_format
from training.duplicates import Reference, level
from training.endpoint import Cache, ask_all
from training.errors import DataError
from training.files import packaged
from training.held_out import concerns_children
from training.recipe import Endpoint, Seeded
from training.records import Prompt, identity, prompt_id, user

SOURCE = "seeded"
EXAMPLES = 3
FEWEST_WORDS, MOST_WORDS = 3, 120
PHRASINGS = {
    "how-to": "questions how something is done.",
    "fiction": "demands for a scene, a poem, a script or a dialogue.",
    "homonym": "questions in which a word that sounds dangerous has an ordinary meaning as well.",
    "history": "questions about what happened, was done or was believed in the past.",
    "definition": "questions what a thing is, means, or how it differs from another.",
    "safety": "worries: how to notice, avoid, stop, survive or report something.",
    "professional": "questions of somebody who says what their work is and why they need to know.",
    "request": "demands for a text, a plan, a list or a translation.",
    "opinion": "questions for a judgement, a comparison or advice on what to choose.",
    "roleplay": "demands that the assistant plays a part and speaks as that person.",
    "story": "a few sentences on what happened to the writer, then a question.",
}


class Request(NamedTuple):
    """What the writer is asked once."""

    boundary: Boundary
    phrasing: str
    pairs: int
    """How many are asked for."""
    body: dict[str, Any]


class Pair(NamedTuple):
    """A draft and what it was asked for."""

    request: Request
    draft: Draft


def requests(settings: Seeded, policy: Policy, written: Sequence[Prompt]) -> list[Request]:
    """Everything the writer is asked: the same for the same settings, policy and pairs.

    Args:
        settings: How many pairs a clause, and how they are sampled.
        policy: The policy whose boundaries are asked about.
        written: Hand-written pairs that the writer may see.
    """
    template = Template(packaged("seeded.txt"))
    examples = as_drafts(written)
    each, more = divmod(settings.pairs_per_clause, settings.samples)
    asked = []
    for boundary in boundaries(policy):
        phrasings = sorted(PHRASINGS, key=lambda name: _lot(f"{boundary.crossed.id}:{name}"))
        own = examples.get(boundary.section.id, [])
        for number in range(min(settings.samples, settings.pairs_per_clause)):
            count = each + (number < more)
            phrasing = phrasings[number % len(phrasings)]
            shown = sorted(own, key=lambda draft: _rank(draft, boundary.crossed, number))[:EXAMPLES]
            text = template.substitute(
                section=f"{boundary.section.title}. {boundary.section.summary}",
                definitions=boundary.section.definitions,
                allows=_clause(boundary.allows),
                crossed=_clause(boundary.crossed),
                examples="\n".join(["Examples:", *(d.model_dump_json() for d in shown)]) if shown else "",
                count=count,
                phrasing=PHRASINGS[phrasing],
                ruling=boundary.crossed.ruling.value,
            )
            body = {
                "messages": [{"role": "user", "content": text}],
                "temperature": settings.temperature,
                "max_tokens": settings.max_tokens,
                "response_format": response_format(count),
            }
            asked.append(Request(boundary, phrasing, count, body))
    return asked


def _lot(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _rank(draft: Draft, crossed: Clause, number: int) -> tuple[bool, bytes]:
    """Place of an example: those with the clause's ruling first, by lot among themselves."""
    return draft.crossing_ruling is not crossed.ruling, _lot(f"{crossed.id}:{number}:{draft.crossing}")


def _clause(clause: Clause) -> str:
    exceptions = (f"  Except: {text}" for text in clause.exceptions)
    return "\n".join((f"[{clause.id}] {clause.ruling.value}: {clause.text}", *exceptions))


def write_pairs(
    endpoint: Endpoint, cache: Cache, asked: Sequence[Request], advance: Callable[[], None] = lambda: None
) -> tuple[list[Pair], dict[str, Any]]:
    """Have the writer write; the pairs and the counts for the manifest.

    Raises:
        EndpointError: The writer cannot be asked; what it answered is kept.
        DataError: It was asked, and no reply holds a pair.
    """
    pairs: list[Pair] = []
    unreadable: Counter[str] = Counter()
    replies = ask_all(endpoint, cache, [request.body for request in asked], advance)
    for request, choices in zip(asked, replies, strict=True):
        for reply in choices:
            drafts = read_drafts(reply.text)
            pairs += [Pair(request, draft) for draft in drafts]
            if not reply.text.strip():
                unreadable["empty reply"] += 1
            elif not drafts:
                unreadable["cut off" if reply.finish == "length" else "no pair in the reply"] += 1
    if asked and not pairs:
        raise DataError(f"none of {len(asked)} replies of the writer {endpoint.model!r} holds a pair")
    return pairs, {
        "writer": endpoint.model,
        "requests": len(asked),
        "unreadable": dict(unreadable),
        "pairs_asked": sum(request.pairs for request in asked),
        "pairs_read": len(pairs),
    }


def kept(pairs: Sequence[Pair], known: Reference, drops: Counter[str]) -> Iterator[Prompt]:
    """Both sides of every pair that may be used.

    Args:
        pairs: What the writer wrote.
        known: Texts to keep away from; what is kept is added.
        drops: Where the other pairs are counted, by reason.
    """
    for (boundary, phrasing, _, _), draft in pairs:
        sides = (draft.allowed.strip(), draft.crossing.strip())
        reason = _reason_to_drop(draft, sides, boundary, known)
        if reason:
            drops[f"{SOURCE} pairs: {reason}"] += 1
            continue
        for text, other, clause in zip(sides, sides[::-1], (boundary.allows, boundary.crossed), strict=True):
            known.add(SOURCE, text)
            messages = user(text)
            yield Prompt(
                id=prompt_id(messages),
                messages=messages,
                source=SOURCE,
                section=boundary.section.id,
                clause=clause.id,
                ruling=clause.ruling,
                pair=f"{SOURCE}-{identity(sides)}",
                phrasing=phrasing,
                decisive=decisive_words(text, other),
                noisy=True,
            )


def _reason_to_drop(draft: Draft, sides: tuple[str, str], boundary: Boundary, known: Reference) -> str:
    if any(map(concerns_children, sides)):
        return "concerns children"
    if any(not FEWEST_WORDS <= len(text.split()) <= MOST_WORDS for text in sides):
        return f"a side outside {FEWEST_WORDS} to {MOST_WORDS} words"
    if level(sides[0]) == level(sides[1]):
        return "equal sides"
    if draft.allowed_ruling is draft.crossing_ruling:
        return "one ruling for both sides"
    if (draft.allowed_ruling, draft.crossing_ruling) != (Ruling.COMPLY, boundary.crossed.ruling):
        return "a ruling that is not its clause's"
    repeated = known.match(sides[0]) or known.match(sides[1])
    return f"{repeated[1]} duplicate of {repeated[0]}" if repeated else ""
