from __future__ import annotations

from typing import Any

import pytest

from guard.errors import UpstreamError
from guard.pipeline.tools import MOST_CALLS, CallNamer


def _delta(index: int | None = 0, **fields: Any) -> dict[str, Any]:
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return {"index": index, **fields, "function": function}


def test_calls_as_vllm_streams_them_pass_unchanged() -> None:
    """A first piece with id and name, then arguments."""
    namer = CallNamer("call_")
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look"}}
    rest = [_delta(arguments='{"a"'), _delta(arguments=": 1}")]

    assert [namer.take([first]), namer.take(rest)] == [[first], rest]
    namer.check()


def test_pieces_wait_for_the_name() -> None:
    """Arguments that come before the name are released with it, in order."""
    namer = CallNamer("call_")

    assert namer.take([_delta(id="c1"), _delta(arguments='{"a"')]) == []
    assert namer.take([_delta(arguments=": "), _delta(name="look", arguments="1}")]) == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    ]


def test_a_call_without_an_id_gets_one() -> None:
    """Ids differ by call, so that results can be told apart."""
    namer = CallNamer("call_x")

    released = namer.take([_delta(0, name="look"), _delta(1, name="look")])

    assert [delta["id"] for delta in released] == ["call_x0", "call_x1"]


def test_a_name_that_is_repeated_is_not_doubled() -> None:
    """Engines that send the name with every piece are understood."""
    namer = CallNamer("call_")

    released = [*namer.take([_delta(name="look")]), *namer.take([_delta(name="look", arguments="{}")])]

    assert "".join(delta["function"].get("name", "") for delta in released) == "look"


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    """Engines without indexes send several calls so."""
    namer = CallNamer("call_")

    released = namer.take(
        [_delta(id="x", name="look", arguments="{}"), _delta(id="y", name="buy"), _delta(arguments="[]")]
    )
    assert [(delta["index"], delta.get("id")) for delta in released] == [(0, "x"), (1, "y"), (1, None)]


def test_calls_are_numbered_from_zero_as_they_come() -> None:
    """Whatever the engine numbers them; a client joins them by position."""
    namer = CallNamer("call_")

    released = namer.take(
        [_delta(7, id="x", name="look"), _delta(3, id="y", name="buy"), _delta(7, arguments="1")]
    )
    assert [delta["index"] for delta in released] == [0, 1, 0]


def test_too_many_calls_are_an_error() -> None:
    """Also where they share an index."""
    with pytest.raises(UpstreamError, match="cannot be understood"):
        CallNamer("call_").take([_delta(id=str(n), name="look") for n in range(MOST_CALLS + 1)])


def test_a_call_that_never_gets_a_name_is_an_error() -> None:
    """No client could run it."""
    namer = CallNamer("call_")
    namer.take([_delta(id="c1", arguments="{}")])

    with pytest.raises(UpstreamError, match="tool call"):
        namer.check()


@pytest.mark.parametrize(
    "delta",
    ["x", None, {"index": "0"}, {"index": -1}, {"index": MOST_CALLS}, {"index": 0, "function": "look"}],
)
def test_what_is_no_tool_call_is_an_error(delta: Any) -> None:
    """A malformed piece is the engine's fault, and said to be."""
    with pytest.raises(UpstreamError, match="tool call"):
        CallNamer("call_").take([delta])


def test_a_missing_index_is_the_first() -> None:
    """Engines that make one call at a time may leave it out."""
    released = CallNamer("call_").take([_delta(None, name="look", id="c1")])

    assert released[0]["index"] == 0
