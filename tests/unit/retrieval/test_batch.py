from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from guard.retrieval.background import Background
from guard.retrieval.batch import TOGETHER, Batch
from guard.retrieval.dense import LONGEST, StaticEncoder
from guard.retrieval.hybrid import Hit, Retriever, Window
from guard.retrieval.scorer import WINDOWS

from .policies import policy_of

ORDINARY = ("how is the weather today", "tell me about a good song", "please bake my bread", "a garden")
TEXTS = (["steal my wallet"], ["a good song"], ["how to poison someone"], ["?!"])


@pytest.fixture
def boats(toy: StaticEncoder) -> Retriever:
    """Over a policy of two sections."""
    policy = policy_of({"poisons": "make poison to harm someone", "thefts": "steal a wallet"})
    return Retriever.build(policy, toy, background=Background.of(ORDINARY, toy))


@pytest.fixture
def calls(boats: Retriever, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of conversations in each call so far."""
    sizes: list[int] = []
    hits = boats.hits

    def counted(conversations: Sequence[Sequence[Window]], *, max_sections: int) -> list[tuple[Hit, ...]]:
        sizes.append(len(conversations))
        return hits(conversations, max_sections=max_sections)

    monkeypatch.setattr(boats, "hits", counted)
    return sizes


async def test_conversations_of_one_turn_are_scored_in_one_call(boats: Retriever, calls: list[int]) -> None:
    """Each gets what it would get alone; one without a word needs no scoring."""
    alone = [boats.retrieve(texts) for texts in TEXTS]
    calls.clear()
    batch = Batch(max_sections=3)
    assert await asyncio.gather(*[batch.retrieve(boats, texts) for texts in TEXTS]) == alone
    assert calls == [3]
    assert await batch.retrieve(boats, TEXTS[0]) == alone[0]
    assert calls == [3, 1]


async def test_turns_that_bring_more_are_waited_for(boats: Retriever, calls: list[int]) -> None:
    """Two of one turn wait for the next, which brings a third; then none comes, and they are scored."""
    batch = Batch(max_sections=3)
    first = [asyncio.create_task(batch.retrieve(boats, texts)) for texts in TEXTS[:2]]
    await asyncio.sleep(0)
    await asyncio.gather(*first, batch.retrieve(boats, TEXTS[2]))
    assert calls == [3]


async def test_what_is_scored_at_once_is_bounded(boats: Retriever, calls: list[int]) -> None:
    """In number, and a long conversation is scored by itself."""
    batch = Batch(max_sections=3)
    long = ["steal a wallet. " * WINDOWS * LONGEST, *TEXTS[0]]
    texts = [TEXTS[0]] * TOGETHER + [long, TEXTS[2]]
    found = await asyncio.gather(*[batch.retrieve(boats, some) for some in texts])
    assert sorted(calls) == [1, 1, TOGETHER]
    assert found == [boats.retrieve(some) for some in texts]


async def test_each_policy_is_scored_by_itself(boats: Retriever, toy: StaticEncoder) -> None:
    """Two policies may be asked about in one turn."""
    other = Retriever.build(
        policy_of({"songs": "paint a song"}), toy, background=Background.of(ORDINARY, toy)
    )
    batch = Batch(max_sections=3)
    first, second = await asyncio.gather(
        batch.retrieve(boats, ["steal my wallet"]), batch.retrieve(other, ["paint my song"])
    )
    assert [hit.section for hit in first] == ["thefts"]
    assert [hit.section for hit in second] == ["songs"]


async def test_a_client_that_goes_takes_nobody_with_it(boats: Retriever) -> None:
    """The others of its turn are answered."""
    batch = Batch(max_sections=3)
    gone, stays = (asyncio.create_task(batch.retrieve(boats, TEXTS[0])) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == boats.retrieve(TEXTS[0])
    assert gone.cancelled()


async def test_an_error_reaches_everybody_who_waits(
    boats: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and the next turn works."""
    batch = Batch(max_sections=3)
    with monkeypatch.context() as broken:
        broken.setattr(boats, "hits", lambda *_, **__: 1 / 0)
        results = await asyncio.gather(
            *[batch.retrieve(boats, TEXTS[0]) for _ in range(2)], return_exceptions=True
        )
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    assert await batch.retrieve(boats, TEXTS[0]) == boats.retrieve(TEXTS[0])
