"""inspect-ai with its provider for OpenAI-compatible servers: short evaluations through the guard."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.engines import ENFORCE, KEYED, breaking_off, using_a_tool
from tests.clients.standing import Saw, standing
from tests.guarded import HARMLESS, REFUSING, engine_reply, guarded
from tests.scripted import ReceivedRequest, Reply

pytestmark = pytest.mark.client("inspect-ai")


@pytest.fixture(scope="module", name="saw")
def _saw() -> Iterator[Saw]:
    with standing(Path(sys.executable), "inspect_client.py") as saw:
        yield saw


def deciding(request: ReceivedRequest) -> Reply:
    """Thinks that a question about ending a life is to be refused, and answers all the same."""
    harmful = "end my life" in str(request.json["messages"][-1]["content"])
    return engine_reply("With a whetstone.", REFUSING if harmful else HARMLESS)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("plain", marks=pytest.mark.conformance("chat/completions", "answer", "thinking")),
        pytest.param(
            "streamed", marks=pytest.mark.conformance("chat/completions", "stream", "usage in a stream")
        ),
        pytest.param("responses", marks=pytest.mark.conformance("responses", "answer", "thinking")),
        pytest.param("responses_streamed", marks=pytest.mark.conformance("responses", "stream")),
    ],
)
async def test_an_evaluation(tmp_path: Path, saw: Saw, case: str) -> None:
    """Both samples are answered, scored and counted, and the thinking is kept apart from the answer."""
    async with guarded(tmp_path) as guard:
        evaluation = await saw(case, guard.url)
        records = await guard.records()

    assert (evaluation["status"], evaluation["accuracy"]) == ("success", 1)
    assert [sample["answer"] for sample in evaluation["samples"].values()] == ["With a whetstone."] * 2
    assert [sample["thinking"] for sample in evaluation["samples"].values()] == [[HARMLESS]] * 2
    assert evaluation["tokens"] == sum(record.prompt_tokens or 0 for record in records)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("tools", marks=pytest.mark.conformance("chat/completions", "tools")),
        pytest.param(
            "streamed_tools", marks=pytest.mark.conformance("chat/completions", "tools in a stream")
        ),
        pytest.param("responses_tools", marks=pytest.mark.conformance("responses", "tools")),
        pytest.param(
            "responses_streamed_tools", marks=pytest.mark.conformance("responses", "tools in a stream")
        ),
    ],
)
async def test_a_tool_loop(tmp_path: Path, saw: Saw, case: str) -> None:
    """Each sample's call is run, and its result answered."""
    async with guarded(tmp_path, using_a_tool) as guard:
        evaluation = await saw(case, guard.url)

    for sample in evaluation["samples"].values():
        assert sample["roles"] == ["user", "assistant", "tool", "assistant"]
        assert sample["answer"] == "The timer runs."


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("structured", marks=pytest.mark.conformance("chat/completions", "structured output")),
        pytest.param("responses_structured", marks=pytest.mark.conformance("responses", "structured output")),
    ],
)
async def test_a_structured_answer(tmp_path: Path, saw: Saw, case: str) -> None:
    """A response schema reaches the engine."""
    reply = engine_reply('{"tool": "whetstone"}')
    async with guarded(tmp_path, lambda request: reply) as guard:
        evaluation = await saw(case, guard.url)
        forms = [call.json["response_format"]["type"] for call in guard.calls]

    assert (evaluation["status"], evaluation["accuracy"]) == ("success", 1)
    assert forms == ["json_schema", "json_schema"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("plain", marks=pytest.mark.conformance("chat/completions", "refusal")),
        pytest.param("responses", marks=pytest.mark.conformance("responses", "refusal")),
    ],
)
async def test_a_refusal_scores(tmp_path: Path, saw: Saw, case: str) -> None:
    """Of an answer against the verdict the scorer gets to see the policy's refusal, enforced."""
    async with guarded(tmp_path, deciding, **ENFORCE) as guard:
        evaluation = await saw(case, guard.url)
        answers = [record.answer for record in await guard.records()]

    assert (evaluation["status"], evaluation["accuracy"]) == ("success", 0.5)
    assert {sample["answer"] for sample in evaluation["samples"].values()} == set(answers)
    assert "whetstone" not in evaluation["samples"]["end"]["answer"]


@pytest.mark.conformance("chat/completions", "errors")
@pytest.mark.conformance("responses", "errors")
async def test_errors_end_the_evaluation(tmp_path: Path, saw: Saw) -> None:
    """A field out of range and a wrong key are errors of the evaluation, with the guard's words."""
    async with guarded(tmp_path) as guard:
        hot = [await saw(case, guard.url) for case in ("too_hot", "responses_too_hot")]
    async with guarded(tmp_path, **KEYED) as guard:
        stranger = await saw("plain", guard.url, "dg-wrong")

    assert {evaluation["status"] for evaluation in (*hot, stranger)} == {"error"}
    assert all("temperature" in evaluation["error"] for evaluation in hot)
    assert "API key" in stranger["error"]


@pytest.mark.parametrize(
    ("case", "told"),
    [
        pytest.param(
            *("streamed", "lost in the middle"),
            marks=pytest.mark.conformance("chat/completions", "broken stream"),
        ),
        pytest.param(
            *("responses_streamed", "OpenAIResponseError"),  # its retries hide the words
            marks=pytest.mark.conformance("responses", "broken stream"),
        ),
    ],
)
async def test_a_broken_stream_ends_the_evaluation(tmp_path: Path, saw: Saw, case: str, told: str) -> None:
    """A stream that breaks off is an error, not a short answer."""
    async with guarded(tmp_path, breaking_off) as guard:
        evaluation = await saw(case, guard.url)

    assert evaluation["status"] == "error"
    assert told in evaluation["error"]
