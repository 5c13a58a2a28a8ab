"""The output items of a response and the stream that tells of them, without a guard around."""

from __future__ import annotations

import asyncio
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.api.admission import FieldNames, new_exchange
from guard.api.answer import Gathered
from guard.api.responses_items import kept_items
from guard.api.responses_output import Shown
from guard.api.responses_request import ResponsesRequest
from guard.api.responses_write import ResponseWriter
from guard.api.state import RequestLimits
from guard.audit.responses import ResponseStore
from guard.deliberation.deliberation import Deliberation
from guard.errors import UpstreamError
from guard.keys import ANONYMOUS
from guard.pipeline.events import AnswerText, Decided, Event, Finished, ThinkingText, ToolCalls
from guard.pipeline.usage import Usage
from guard.policy.model import Ruling
from tests.responses_stream import Data, ResponseEvents, check_response, read_events

LIMITS = RequestLimits(body_bytes=10_000, body_seconds=10, choices=1, messages=10, max_answer_tokens=100)
SCHEMA = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}


def decided(*, refused: bool = False) -> Decided:
    """The thinking is over."""
    return Decided(Deliberation("", Ruling.COMPLY, (), ()), refused)


def finished(reason: str = "stop") -> Finished:
    """The choice is over."""
    return Finished(reason, Usage(7, 5))


def call(index: int, arguments: str = "", *, call_id: str | None = None, name: str | None = None) -> Event:
    """A tool-call delta."""
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return ToolCalls([{"index": index, "function": function, **({"id": call_id} if call_id else {})}])


def writer(shown: Shown = Shown.HIDDEN, *, structured: bool = False) -> ResponseWriter:
    """A writer whose response is not kept, so that it needs no database."""
    text = {"format": SCHEMA} if structured else None
    body = {"model": "default", "input": "Hi", "store": False, "text": text}
    asked = ResponsesRequest.model_validate(body)
    exchange = new_exchange(
        "responses", ANONYMOUS, LIMITS, FieldNames(), model="default", stream=True, messages=[], sampling={}
    )
    store = cast(ResponseStore, None)
    return ResponseWriter(exchange, asked, kept_items("Hi", "resp_" + "0" * 26), shown, store)


def told(*events: Event, shown: Shown = Shown.HIDDEN, structured: bool = False) -> ResponseEvents:
    """The stream of these events, which has passed the validator."""
    write = writer(shown, structured=structured)
    raw = b"".join([write.frames(0, event) for event in events])
    asyncio.run(write.keep())
    return read_events(raw + write.end())


def whole(*events: Event, shown: Shown = Shown.HIDDEN, structured: bool = False) -> Data:
    """The same events as an answer that is not streamed."""
    write, choice = writer(shown, structured=structured), Gathered()
    for event in events:
        choice.add(event)
    asyncio.run(write.keep_whole([choice]))
    return check_response(orjson.loads(write.whole([choice])))


def test_a_text_is_one_message_with_one_part() -> None:
    """Deltas follow the part's opening, and the done events close what was opened, inside out."""
    stream = told(decided(), AnswerText("With a"), AnswerText(" whetstone."), finished())

    assert stream.types[2:-1] == [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert stream.items[0]["content"][0]["text"] == "With a whetstone."
    assert stream.items[0]["id"] == stream.response["id"].replace("resp_", "msg_") + "0001"


def test_hidden_thinking_gives_nothing() -> None:
    """Without the right to see the thinking there is no reasoning item and no event of one."""
    stream = told(ThinkingText("secret"), decided(), AnswerText("x"), finished())

    assert [item["type"] for item in stream.items] == ["message"]
    assert not any("reasoning" in kind for kind in stream.types)


@pytest.mark.parametrize(
    ("shown", "where", "part", "types"),
    [
        (
            Shown.TEXT,
            "content",
            "reasoning_text",
            ["content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"],
        ),
        (
            Shown.SUMMARY,
            "summary",
            "summary_text",
            [
                "reasoning_summary_part.added",
                "reasoning_summary_text.delta",
                "reasoning_summary_text.done",
                "reasoning_summary_part.done",
            ],
        ),
    ],
)
def test_shown_thinking_is_an_item_of_its_own(shown: Shown, where: str, part: str, types: list[str]) -> None:
    """As text or as a summary, the thinking is closed before the answer's item opens."""
    stream = told(ThinkingText("Harmless."), decided(), AnswerText("x"), finished(), shown=shown)

    assert stream.items[0][where] == [{"type": part, "text": "Harmless."}]
    assert stream.types[3:7] == [f"response.{kind}" for kind in types]
    assert stream.types[7:9] == ["response.output_item.done", "response.output_item.added"]


def test_a_refusal_of_the_guard_has_its_own_part_where_the_client_parses() -> None:
    """A structured answer that the guard refuses is a refusal part, told by refusal events."""
    stream = told(decided(refused=True), AnswerText("No."), finished(), structured=True)

    assert stream.items[0]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert {"response.refusal.delta", "response.refusal.done"} <= set(stream.types)
    assert stream.text == ""


def test_a_refusal_of_the_guard_is_plain_text_elsewhere() -> None:
    """A client that does not parse the answer gets the refusal as the answer's text."""
    stream = told(decided(refused=True), AnswerText("No."), finished())

    assert stream.items[0]["content"][0]["type"] == "output_text"


def test_parallel_calls_follow_one_another() -> None:
    """A call whose arguments are whole is closed before the next one opens."""
    stream = told(
        decided(),
        call(0, '{"a"', call_id="call_a", name="f"),
        call(0, ": 1}"),
        call(1, "{}", call_id="call_b", name="g"),
        finished("tool_calls"),
    )

    assert [(i["call_id"], i["name"], i["arguments"]) for i in stream.items] == [
        ("call_a", "f", '{"a": 1}'),
        ("call_b", "g", "{}"),
    ]
    steps = [t.removeprefix("response.") for t in stream.types[2:-1]]
    one = ["output_item.added", "function_call_arguments.delta"]
    end = ["function_call_arguments.done", "output_item.done"]
    assert steps == [*one, one[1], *end, *one, *end]


def test_interleaved_calls_stay_apart() -> None:
    """An engine that goes back to a call it has not finished is understood."""
    stream = told(
        decided(),
        call(0, '{"a":', call_id="call_a", name="f"),
        call(1, '{"b":', call_id="call_b", name="g"),
        call(0, "1}"),
        call(1, "2}"),
        finished("tool_calls"),
    )

    assert [item["arguments"] for item in stream.items] == ['{"a":1}', '{"b":2}']


def test_a_call_opens_when_its_name_is_known() -> None:
    """Arguments that come before the name wait for it; a missing id is made up."""
    stream = told(decided(), call(0, '{"a":'), call(0, "1}", name="f"), finished("tool_calls"))

    assert (stream.items[0]["name"], stream.items[0]["arguments"]) == ("f", '{"a":1}')
    assert stream.items[0]["call_id"].startswith("call_")


def test_a_call_without_a_name_is_an_error() -> None:
    """Field lesson 33: a nameless call is the engine's fault and ends the response as failed."""
    with pytest.raises(UpstreamError, match="cannot be understood"):
        told(decided(), call(0, "{}"), finished("tool_calls"))


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    """Items keep the order in which the engine wrote them."""
    stream = told(
        decided(), AnswerText("a"), call(0, "{}", call_id="c", name="f"), AnswerText("b"), finished()
    )

    assert [item["type"] for item in stream.items] == ["message", "function_call", "message"]


@pytest.mark.parametrize(
    ("reason", "told_reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_cut_answer_is_incomplete(reason: str, told_reason: str) -> None:
    """The token limit and a late finding make response and message incomplete, with the reason."""
    stream = told(decided(), AnswerText("With"), finished(reason))

    assert stream.response["incomplete_details"] == {"reason": told_reason}
    assert stream.items[0]["status"] == "incomplete"
    assert stream.types[-1] == "response.incomplete"


def test_a_cut_call_is_incomplete_and_a_whole_one_is_not() -> None:
    """Where the limit falls inside the second call's arguments, the first can still be run."""
    stream = told(
        decided(),
        call(0, "{}", call_id="a", name="f"),
        call(1, '{"a', call_id="b", name="g"),
        finished("length"),
    )

    assert [item["status"] for item in stream.items] == ["completed", "incomplete"]


def test_an_empty_answer_is_an_empty_message() -> None:
    """A completed response has at least one item besides the thinking."""
    stream = told(ThinkingText("t"), decided(), finished(), shown=Shown.TEXT)

    assert [item["type"] for item in stream.items] == ["reasoning", "message"]
    assert stream.items[1]["content"][0]["text"] == ""


_pieces = st.text(max_size=5)
_calls = st.builds(
    call,
    st.integers(0, 3),
    st.sampled_from(["", "{", "}", '{"a":1}', " "]),
    call_id=st.sampled_from([None, "call_x"]),
    name=st.sampled_from([None, "f"]),
)


@given(
    st.lists(st.builds(ThinkingText, _pieces), max_size=3),
    st.booleans(),
    st.lists(_pieces.map(AnswerText) | _calls, max_size=8),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    st.sampled_from(Shown),
    st.booleans(),
)
def test_any_order_of_events_gives_a_stream_that_keeps_the_rules(
    thinking: list[Event], refused: bool, answer: list[Event], reason: str, shown: Shown, structured: bool
) -> None:
    """Whatever an engine does, the stream passes the validator or fails as the engine's fault."""
    events = [*thinking, decided(refused=refused), *answer, finished(reason)]
    try:
        stream = told(*events, shown=shown, structured=structured)
    except UpstreamError:
        return

    parts = [part for item in stream.items if item["type"] == "message" for part in item["content"]]
    said = "".join(part.get("text", "") + part.get("refusal", "") for part in parts)
    assert said == "".join(event.text for event in answer if isinstance(event, AnswerText))
    assert all(part.get("refusal", "") == "" for part in parts) or (refused and structured)


def _bare(items: list[Data]) -> list[Data]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_streamed_and_whole_answers_are_alike(reason: str) -> None:
    """Field lesson 27: the same events give the same items whether streamed or not."""
    events: list[Event] = [
        ThinkingText("t"),
        decided(),
        AnswerText("See "),
        AnswerText("there."),
        call(0, '{"a":', call_id="call_a", name="f"),
        call(0, "1}"),
        finished(reason),
    ]

    assert _bare(told(*events, shown=Shown.TEXT).items) == _bare(whole(*events, shown=Shown.TEXT)["output"])


def test_a_failure_before_anything_was_shown_still_opens_the_response() -> None:
    """After a ping the error comes as an event, and created and in_progress come before it."""
    stream = read_events(writer().failed(UpstreamError("The engine failed.")))

    assert stream.types == ["response.created", "response.in_progress", "response.failed"]
    assert stream.response["error"] == {"code": "server_error", "message": "The engine failed."}


def test_a_failure_leaves_out_the_item_that_was_open() -> None:
    """What is not whole is not in the failed response's output."""
    write = writer()
    raw = write.frames(0, decided()) + write.frames(0, AnswerText("With"))
    stream = read_events(raw + write.failed(UpstreamError("The engine failed.")))

    assert stream.items == []
    assert stream.response["store"] is False
