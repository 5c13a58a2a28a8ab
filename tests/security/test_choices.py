"""Many answers to one question, of which one is bad."""

from __future__ import annotations

from pathlib import Path

from guard.audit.record import Outcome
from guard.policy.load import load_policy
from tests.guarded import POLICY, REFUSING, engine_reply, guarded
from tests.scripted import ReceivedRequest, Reply
from tests.security.surfaces import CHAT, COMPLETIONS, ENFORCE, HARMFUL, Surface, each_surface, tell

REFUSAL = load_policy(POLICY).refusals["self-harm"]
GOOD = "I'm sorry, I can't help with that."
BAD = "Sure! Take the following steps."
N = 8


@each_surface(CHAT, COMPLETIONS)
async def test_each_choice_is_judged_by_itself(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """Of eight answers the one against its verdict is replaced, and no other."""

    def answer(request: ReceivedRequest) -> Reply:
        return engine_reply(BAD if request.json["seed"] == 105 else GOOD, REFUSING)

    async with guarded(tmp_path, answer, **ENFORCE, limits={"choices": N}) as guard:
        told = await tell(guard, surface, surface.ask(HARMFUL, n=N, seed=100), stream=stream)
        records = await guard.records()

    assert [told.texts[index] for index in range(N)] == [GOOD] * 5 + [REFUSAL] + [GOOD] * 2
    outcomes = {record.choice: record.outcome for record in records}
    assert outcomes == {i: Outcome.REFUSED if i == 5 else Outcome.ANSWERED for i in range(N)}


@each_surface(CHAT, COMPLETIONS)
async def test_the_engine_is_asked_for_one_choice_at_a_time(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """No engine picks among answers that nobody judged: n, best_of and beams are never passed on."""
    async with guarded(tmp_path) as guard:
        await tell(guard, surface, surface.ask(n=3, seed=7), stream=stream)

        assert len(guard.calls) == 3
        assert all(call.json.keys().isdisjoint({"n", "best_of", "use_beam_search"}) for call in guard.calls)


@each_surface(CHAT, COMPLETIONS)
async def test_more_choices_than_allowed_are_refused(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """So that one request cannot try for ever; prompts of the legacy endpoint count as well."""
    bodies = [surface.ask(n=9), surface.ask(n=16384), surface.ask(n=0), surface.ask(n=-1)]
    if surface is COMPLETIONS:
        bodies.append(surface.ask(n=3) | {"prompt": ["a", "b", "c"]})
    async with guarded(tmp_path) as guard:
        for body in bodies:
            assert (await tell(guard, surface, body, stream=stream)).status == 400, body

        assert guard.calls == []
