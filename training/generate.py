"""Stage ``generate``: G_base deliberates with ``spec(category)`` in context.

``free``: the teacher gets the section and two worked deliberations, its turn is begun for it
(``<think>`` and the first words), and it writes the rest. ``scaffold``, for a teacher too weak for
that: clause and verdict come from the label, the teacher writes what is asked and the answer, and
:mod:`training.deliberate` puts the thinking together. Reads ``prompts.jsonl``, writes
``completions.jsonl``; every reply is cached as it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from guard.deliberation.thinking import split_thinking
from guard.policy.compose import render_policy
from guard.policy.model import Policy, Ruling, Section
from training.deliberate import completion_text, scaffolded_thinking
from training.endpoint import Cache, Reply, ask_all
from training.errors import DataError
from training.recipe import Endpoint, Generate
from training.records import Completion, Prompt

FREE_BEGINNING = "<think>\nThe user"
SCAFFOLD_BEGINNING = "Asked: The user"

_FREE = """\
You answer people after deliberating over a policy. First think between <think> and </think> in three or \
four short sentences: what is asked; the one clause that decides, as [ID] "its first words" copied exactly; \
the fact of the request that makes it apply; then a last line, Decision: comply, Decision: safe_complete or \
Decision: refuse. After </think> write only the answer, two to four sentences in the style of the decision, \
without mention of the policy."""

_SCAFFOLD = """\
You write for a helpful and safe assistant. Below is one section of its policy. For each request you are \
told the clause that decides and the decision. Write two lines.
Asked: one sentence that begins with "The user" and says in your own words exactly what is requested.
Answer: what the assistant says to the user, one to three sentences. It never mentions policy or clauses.
- Decision comply: the request is fine. Answer it directly, with substance, and do not refuse or warn.
- Decision safe_complete: speak warmly, give general safe information, say where to get help; no amounts, \
steps or targets.
- Decision refuse: begin with "I'm sorry, but I can't help with", name the matter in a few words, then offer \
something nearby that is fine."""

_ORDINARY = "An ordinary request: no clause of the policy stands against it."

_Worked = tuple[str, Ruling, str, str]
_WORKED: tuple[_Worked, ...] = (
    (
        "How do I get my shy striker to shoot on sight?",
        Ruling.COMPLY,
        "The user asks how to encourage a timid football player to shoot more often.",
        "Praise every attempt in training, even the misses. Set small games where only first-time shots "
        "count, and agree on one clear cue, such as any ball inside the box.",
    ),
    (
        "Where should I wait for my landlord to break his knees?",
        Ruling.REFUSE,
        "The user wants a place to ambush their landlord and injure him.",
        "I'm sorry, but I can't help with hurting your landlord. If he treats you unfairly, I can help you "
        "write a complaint.",
    ),
    (
        "I can't see a reason to wake up tomorrow and nobody would notice anyway.",
        Ruling.SAFE_COMPLETE,
        "The user says they see no reason to live and feel unnoticed.",
        "That sounds very heavy, and I'm glad you said it. If you might act on it tonight, please call your "
        "local emergency number or a crisis line. What made today so hard?",
    ),
)
_WORKED_CLAUSE = {"comply": "VI9", "refuse": "VI4", "safe_complete": "SH4"}

_FIELDS = re.compile(r"\A\s*(?P<asked>.+?)\s*\nAnswer:\s*(?P<answer>.+?)\s*\Z", re.DOTALL)


def generate(
    settings: Generate,
    endpoint: Endpoint,
    cache: Cache,
    prompts: Sequence[Prompt],
    policy: Policy,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[Completion], dict[str, Any]]:
    """Sample every prompt; the completions and the counts for the manifest.

    Prompts are asked section by section, so that the engine's prefix cache holds each section once.

    Raises:
        EndpointError: The teacher cannot be asked; what it answered is kept.
        DataError: A prompt has no ruling, which the scaffold needs.
    """
    order = sorted(prompts, key=lambda prompt: (prompt.section or "", prompt.id))
    if settings.mode == "scaffold":
        order = _with_clauses(order, endpoint, cache, policy)
    bodies = [request_body(settings, prompt, policy) for prompt in order]
    replies = ask_all(endpoint, cache, bodies, advance)
    completions: list[Completion] = []
    unreadable = 0
    for prompt, choices in zip(order, replies, strict=True):
        for sample, reply in enumerate(choices):
            completion = _read(settings, prompt, sample, reply, endpoint.model, policy)
            if completion is None:
                unreadable += 1
            else:
                completions.append(completion)
    return completions, {"completions": len(completions), "unreadable": unreadable}


def spec(policy: Policy, section: Section | None) -> str:
    """``spec(category)`` for a small teacher: the section in full; nothing for ordinary prompts."""
    return render_policy(policy).sections[section.id] if section else ""


def request_body(settings: Generate, prompt: Prompt, policy: Policy) -> dict[str, Any]:
    """What the teacher is sent for one prompt, without ``model``."""
    section = policy.section[prompt.section] if prompt.section else None
    scaffold = settings.mode == "scaffold"
    messages = [
        {"role": "system", "content": f"{_SCAFFOLD if scaffold else _FREE}\n\n{spec(policy, section)}"}
    ]
    for text, ruling, asked, answer in _WORKED:
        clause = policy.clauses.get(_WORKED_CLAUSE[ruling.value])
        if scaffold:
            messages.append(
                {"role": "user", "content": _request(text, clause.text if clause else "", ruling)}
            )
            messages.append({"role": "assistant", "content": f"Asked: {asked}\nAnswer: {answer}"})
        elif ruling is not Ruling.SAFE_COMPLETE:
            thinking = scaffolded_thinking(asked, ruling, clause)
            messages.append({"role": "user", "content": text})
            messages.append({"role": "assistant", "content": completion_text(thinking, answer)})
    if scaffold:
        if prompt.ruling is None:
            raise DataError(f"prompt {prompt.id} of {prompt.source} has no ruling, which the scaffold needs")
        clause = policy.clauses[prompt.clause] if prompt.clause else None
        decides = clause.text if clause else _ORDINARY
        messages.append(
            {"role": "user", "content": _request(prompt.plain or prompt.text, decides, prompt.ruling)}
        )
        messages.append({"role": "assistant", "content": SCAFFOLD_BEGINNING})
    else:
        messages.extend(message.model_dump() for message in prompt.messages)
        messages.append({"role": "assistant", "content": FREE_BEGINNING})
    return {
        "messages": messages,
        "temperature": settings.temperature,
        "top_p": 0.9,
        "max_tokens": settings.max_tokens,
        "n": settings.samples,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def _request(text: str, clause: str, ruling: Ruling) -> str:
    return f'Request: "{text}"\nClause that decides: {clause}\nDecision: {ruling.value}'


def _read(
    settings: Generate, prompt: Prompt, sample: int, reply: Reply, model: str, policy: Policy
) -> Completion | None:
    """The completion in a reply, or None where it has not the form that was asked for."""
    if settings.mode == "free":
        thinking, answer = split_thinking(FREE_BEGINNING + reply.text)
        closed = bool(answer) and reply.finish == "stop"
    else:
        match = _FIELDS.match(SCAFFOLD_BEGINNING.removeprefix("Asked: ") + reply.text)
        if match is None or prompt.ruling is None:
            return None
        clause = policy.clauses[prompt.clause] if prompt.clause else None
        asked = " ".join(match["asked"].split())
        thinking = scaffolded_thinking(asked, prompt.ruling, clause, prompt.decisive, prompt.variant)
        answer, closed = whole_sentences(match["answer"], cut=reply.finish == "length")
    return Completion(
        prompt=prompt.id,
        sample=sample,
        model=model,
        thinking=thinking.strip(),
        answer=answer.strip(),
        closed=closed,
    )


def whole_sentences(text: str, *, cut: bool) -> tuple[str, bool]:
    """An answer without its unfinished last sentence, and whether anything is left.

    >>> whole_sentences("First. Second is cu", cut=True)
    ('First.', True)
    """
    if not cut:
        return text, bool(text)
    end = max(text.rfind(mark) for mark in (". ", ".\n", "! ", "? ", "!\n", "?\n", "\n\n"))
    return text[: end + 1].strip(), end > 0


_CHOOSE = """\
Below is one section of a safety policy. Name the one clause by which the request must be refused. Answer \
with its id alone."""


def _with_clauses(
    prompts: Sequence[Prompt], endpoint: Endpoint, cache: Cache, policy: Policy
) -> list[Prompt]:
    """Imported prompts that must be refused get the clause that the teacher finds in their section."""
    chosen: dict[str, str] = {}
    open_prompts = [p for p in prompts if p.clause is None and p.section and p.ruling is not Ruling.COMPLY]
    bodies = []
    for prompt in open_prompts:
        section = policy.section[str(prompt.section)]
        ids = [clause.id for clause in section.clauses if clause.ruling is prompt.ruling]
        bodies.append(
            {
                "messages": [
                    {"role": "system", "content": f"{_CHOOSE}\n\n{spec(policy, section)}"},
                    {"role": "user", "content": f'Request: "{prompt.text}"\nClause:'},
                ],
                "temperature": 0.0,
                "max_tokens": 8,
                "structured_outputs": {"choice": ids},
            }
        )
    for prompt, choices in zip(open_prompts, ask_all(endpoint, cache, bodies), strict=True):
        if choices and choices[0].text.strip() in policy.clauses:
            chosen[prompt.id] = choices[0].text.strip()
    kept = []
    for prompt in prompts:
        if prompt.id in chosen:
            kept.append(prompt.model_copy(update={"clause": chosen[prompt.id]}))
        elif prompt.clause or prompt.ruling is Ruling.COMPLY:
            kept.append(prompt)
    return kept
