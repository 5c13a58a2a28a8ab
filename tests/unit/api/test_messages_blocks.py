"""Content blocks: numbered, one open at a time, whatever order an engine sends things in."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.api.messages_blocks import ContentBlocks, event
from guard.errors import UpstreamError
from tests.message_events import read_message_stream

START = event(
    "message_start",
    {
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 0},
        }
    },
)
END = event(
    "message_delta",
    {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}},
) + event("message_stop", {})


def _call(index: int, arguments: str = "", name: str = "", call_id: str = "") -> dict[str, Any]:
    return {"index": index, "id": call_id or None, "function": {"name": name, "arguments": arguments}}


def _content(blocks: ContentBlocks, *events: bytes) -> list[dict[str, Any]]:
    raw = START + b"".join(events) + blocks.close() + END
    content: list[dict[str, Any]] = read_message_stream(raw).message["content"]
    return content


def test_thinking_text_and_call_are_blocks_in_order() -> None:
    """Each kind is a block of its own, closed before the next begins."""
    blocks = ContentBlocks("gr-1")
    content = _content(
        blocks,
        blocks.add("thinking", "Hm"),
        blocks.add("thinking", "."),
        blocks.add("text", "Let me see."),
        blocks.add_tools([_call(0, name="look", call_id="call_1")]),
        blocks.add_tools([_call(0, '{"at"')]),
        blocks.add_tools([_call(0, ": 1}")]),
    )

    assert content == [
        {"type": "thinking", "thinking": "Hm.", "signature": "gr-1"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_1", "name": "look", "input": '{"at": 1}'},
    ]


def test_an_empty_answer_has_no_block() -> None:
    """Nothing said, nothing opened."""
    assert _content(ContentBlocks("gr-1")) == []


def test_a_call_without_arguments_is_still_a_block() -> None:
    """A tool that takes nothing is called all the same."""
    blocks = ContentBlocks("gr-1")

    assert _content(blocks, blocks.add_tools([_call(0, name="now", call_id="a")]))[0]["input"] == ""


def test_a_call_that_lacks_an_id_gets_one() -> None:
    """Clients answer calls by id, so an engine that sends none is made up for."""
    blocks = ContentBlocks("gr-1")
    content = _content(blocks, blocks.add_tools([_call(0, "{}", "now"), _call(1, "{}", "then")]))

    assert [block["id"] for block in content] == ["toolu_gr-1_0", "toolu_gr-1_1"]


def test_whole_calls_are_not_held_back() -> None:
    """A second call streams as soon as the arguments of the first are whole."""
    blocks = ContentBlocks("gr-1")
    blocks.add_tools([_call(0, "{}", "one", "a")])

    assert b'"two"' in blocks.add_tools([_call(1, "{", "two", "b")])


@pytest.mark.parametrize("arguments", ["1", " "])
def test_more_of_a_whole_call_is_an_error_unless_it_says_nothing(arguments: str) -> None:
    """What is closed cannot be opened again; only white space is let go."""
    blocks = ContentBlocks("gr-1")
    blocks.add_tools([_call(0, "{}", "one", "a"), _call(1, "{", "two", "b")])
    if arguments.strip():
        with pytest.raises(UpstreamError):
            blocks.add_tools([_call(0, arguments)])
    else:
        assert blocks.add_tools([_call(0, arguments)]) == b""


def test_a_call_of_no_tool_is_an_error() -> None:
    """Field lesson 33: a call without a name ends the stream; it is not passed on."""
    blocks = ContentBlocks("gr-1")
    blocks.add_tools([_call(0)])

    with pytest.raises(UpstreamError, match="without naming"):
        blocks.close()


_ARGUMENTS = [orjson.dumps({"n": number, "text": "a{b}" * number}).decode() for number in range(3)]


@given(st.data())
def test_any_mixture_of_pieces_gives_the_same_blocks(data: st.DataObject) -> None:
    """Calls and text in pieces, mixed in any way, end as one whole block for each call."""
    pieces: list[list[tuple[int, str]]] = []
    for index, arguments in enumerate(_ARGUMENTS):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(arguments)), max_size=3)))
        parts = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        pieces.append([(index, part) for part in parts])
    pieces.append([(-1, "word ")] * 3)
    blocks, events, begun = ContentBlocks("gr-1"), [], set()
    while waiting := [queue for queue in pieces if queue]:
        index, part = data.draw(st.sampled_from(waiting)).pop(0)
        if index < 0:
            events.append(blocks.add("text", part))
            continue
        name = "" if index in begun else f"tool{index}"
        begun.add(index)
        events.append(blocks.add_tools([_call(index, part, name, f"c{index}" if name else "")]))
    content = _content(blocks, *events)

    calls = {block["name"]: block["input"] for block in content if block["type"] == "tool_use"}
    assert calls == {f"tool{index}": arguments for index, arguments in enumerate(_ARGUMENTS)}
    assert "".join(block.get("text", "") for block in content) == "word " * 3
