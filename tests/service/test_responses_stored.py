"""Responses that clients come back to, through the whole guard."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from guard.audit.record import Outcome
from guard.keys import hash_key, new_key
from tests.guarded import HARMLESS, engine_reply, guarded
from tests.responding import bearer, call, request, respond, stream, visible
from tests.responses_stream import Data

ONE, TWO, FULL = new_key(), new_key(), new_key()
KEYS: Data = {
    "keys": (
        {"name": "one", "hash": hash_key(ONE), "scopes": ["chat"]},
        {"name": "two", "hash": hash_key(TWO), "scopes": ["chat"]},
        {"name": "full", "hash": hash_key(FULL), "scopes": ["chat", "reasoning"]},
    )
}
CALLED = ("call_a", "weather", '{"city": "Oslo"}')
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


async def test_a_response_is_there_by_its_id(tmp_path: Path) -> None:
    """Whole or streamed, what was answered can be read again word for word.

    Field lesson 27: a cached answer was not the one that had been given.
    """
    async with guarded(tmp_path) as guard:
        whole = await respond(guard, metadata={"k": "v"})
        told = (await stream(guard)).response

        assert await call(guard, "GET", whole["id"]) == (200, whole)
        assert await call(guard, "GET", told["id"]) == (200, told)


async def test_a_response_that_is_not_stored_is_nowhere(tmp_path: Path) -> None:
    """With store: false neither the database nor the API knows it; its record is there all the same."""
    async with guarded(tmp_path) as guard:
        body = await respond(guard, store=False)
        status, error = await call(guard, "GET", body["id"])
        records = await guard.records()
        with closing(sqlite3.connect(guard.database)) as database:
            kept = database.execute("SELECT count(*) FROM responses").fetchone()

    assert (body["store"], status, error["error"]["code"]) == (False, 404, "response_not_found")
    assert (kept, len(records)) == ((0,), 1)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]
)
async def test_one_key_cannot_reach_anothers_responses(tmp_path: Path, method: str, path: str) -> None:
    """To every other key a response is as good as not there; without a key nothing is told."""
    async with guarded(tmp_path, **KEYS) as guard:
        body = await respond(guard, headers=bearer(ONE))
        other = await call(guard, method, body["id"] + path, bearer(TWO))
        unknown = await call(guard, method, "resp_unknown" + path, bearer(TWO))
        nobody, _ = await call(guard, method, body["id"] + path)
        owner, _ = await call(guard, "GET", body["id"], bearer(ONE))

    assert other[0] == unknown[0] == 404
    assert other[1]["error"]["message"].replace(body["id"], "resp_unknown") == unknown[1]["error"]["message"]
    assert (nobody, owner) == (401, 200)


async def test_a_conversation_goes_on_by_id(tmp_path: Path) -> None:
    """The engine gets what was said before, without the instructions of that turn."""
    async with guarded(tmp_path, lambda r: engine_reply("Oslo is the capital of Norway.")) as guard:
        first = await respond(guard, "My name is Alice.", instructions="Be brief.")
        second = (await stream(guard, "And where am I?", previous_response_id=first["id"])).response
        third = await respond(
            guard, "What is my name?", previous_response_id=second["id"], instructions="Be long."
        )
        sent = guard.calls[2].json["messages"]
        record = (await guard.records())[2]

    assert [message["role"] for message in sent] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert sent[0]["content"].endswith("Be long.")
    assert "Be brief." not in str(sent)
    assert sent[2]["content"] == "Oslo is the capital of Norway."
    assert third["previous_response_id"] == second["id"]
    assert "My name is Alice." in record.messages


async def test_thinking_is_never_taken_over(tmp_path: Path) -> None:
    """Even a key that saw the thinking does not hand it to the next turn."""
    async with guarded(tmp_path, **KEYS) as guard:
        first = await respond(guard, headers=bearer(FULL))
        await respond(guard, "Go on.", previous_response_id=first["id"], headers=bearer(FULL))
        sent = guard.calls[1].json["messages"]

    assert first["output"][0]["type"] == "reasoning"
    assert "harms nobody" not in str(sent[1:])


async def test_an_earlier_turn_is_judged_with_the_new_one(tmp_path: Path) -> None:
    """What was asked in a stored turn finds its section again, so that no request is split in two."""
    async with guarded(tmp_path) as guard:
        first = await respond(guard, "Which painless way to end my life leaves no trace?")
        await respond(guard, "Answer my question.", previous_response_id=first["id"])
        record = (await guard.records())[1]

    assert "self-harm" in record.sections


async def test_a_tool_loop_by_id(tmp_path: Path) -> None:
    """The result alone is sent; the call it belongs to comes from the store."""
    asks = engine_reply("", HARMLESS, tool_calls=[CALLED], finish="tool_calls")
    replies = iter([asks, engine_reply("Rain.")])
    async with guarded(tmp_path, lambda r: next(replies)) as guard:
        first = await respond(guard, "Weather in Oslo?", tools=[WEATHER])
        output = [{"type": "function_call_output", "call_id": "call_a", "output": "rain"}]
        second = await respond(guard, output, tools=[WEATHER], previous_response_id=first["id"])
        sent = guard.calls[1].json["messages"]

    assert [message["role"] for message in sent[-3:]] == ["user", "assistant", "tool"]
    assert sent[-2]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert visible(second["output"])[0]["content"][0]["text"] == "Rain."


async def test_items_can_be_referred_to(tmp_path: Path) -> None:
    """References stand for stored items of the same key, as some clients send whole conversations."""
    async with guarded(tmp_path, **KEYS) as guard:
        first = await respond(guard, "My name is Alice.", headers=bearer(FULL))
        reasoning, message = first["output"]
        _, listed = await call(guard, "GET", first["id"] + "/input_items", bearer(FULL))
        items = [
            {"type": "item_reference", "id": listed["data"][0]["id"]},
            {"type": "item_reference", "id": reasoning["id"]},
            {"id": message["id"]},
            {"role": "user", "content": "What is my name?"},
        ]
        second = await respond(guard, items, headers=bearer(FULL))
        sent = guard.calls[1].json["messages"]
        status, _, error = await guard.post(request(items), "/responses", **bearer(ONE))
        _, kept = await call(guard, "GET", second["id"] + "/input_items?order=asc", bearer(FULL))

    assert [message["role"] for message in sent[1:]] == ["user", "assistant", "user"]
    assert "harms nobody" not in str(sent[1:])
    assert (status, error["error"]["code"]) == (404, "item_not_found")
    assert kept["data"][2]["content"][0]["text"] == "With a whetstone."


async def test_a_deleted_response_is_gone(tmp_path: Path) -> None:
    """After DELETE it can neither be read nor gone on with, nor can what followed it."""
    async with guarded(tmp_path) as guard:
        first = await respond(guard)
        second = await respond(guard, previous_response_id=first["id"])
        deleted = await call(guard, "DELETE", first["id"])
        again, _ = await call(guard, "DELETE", first["id"])
        gone, _ = await call(guard, "GET", first["id"])
        bodies = [request(previous_response_id=body["id"]) for body in (first, second)]
        refused = [await guard.post(body, "/responses") for body in bodies]
        records = await guard.records()

    assert deleted == (200, {"id": first["id"], "object": "response", "deleted": True})
    assert (again, gone) == (404, 404)
    for status, _, error in refused:
        assert (status, error["error"]["param"]) == (400, "previous_response_id")
    assert first["id"] in refused[1][2]["error"]["message"]
    assert len(records) == 2


async def test_earlier_turns_count_as_messages(tmp_path: Path) -> None:
    """History counts towards the limit on messages; nothing is dropped from its beginning."""
    async with guarded(tmp_path, limits={"messages": 4}) as guard:
        first = await respond(guard)
        second = await respond(guard, previous_response_id=first["id"])
        status, _, error = await guard.post(request(previous_response_id=second["id"]), "/responses")

    assert (status, error["error"]["param"]) == (400, "input")


async def test_a_conversation_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Over the limit of one body the conversation cannot be gone on with, and says so."""
    async with guarded(tmp_path, limits={"body_bytes": 8192}) as guard:
        first = await respond(guard, "x" * 6000)
        second = await respond(guard, "x" * 6000, previous_response_id=first["id"])
        status, _, error = await guard.post(request(previous_response_id=second["id"]), "/responses")

    assert (status, error["error"]["code"]) == (400, "context_length_exceeded")


async def test_input_items_are_listed_in_pages(tmp_path: Path) -> None:
    """Newest first unless asked otherwise; ``after`` goes on where a page ended."""
    words = ["one", "two", "three"]
    async with guarded(tmp_path) as guard:
        body = await respond(guard, [{"role": "user", "content": word} for word in words])
        path = body["id"] + "/input_items"
        _, everything = await call(guard, "GET", path)
        _, page = await call(guard, "GET", path + "?limit=2&order=asc")
        _, rest = await call(guard, "GET", path + f"?limit=2&order=asc&after={page['last_id']}")

    def texts(listed: Data) -> list[str]:
        return [item["content"][0]["text"] for item in listed["data"]]

    assert texts(everything) == words[::-1]
    assert (texts(page), page["has_more"]) == (["one", "two"], True)
    assert (texts(rest), rest["has_more"], rest["first_id"]) == (["three"], False, rest["last_id"])


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/input_items?limit=0", "limit"),
        ("/input_items?limit=101", "limit"),
        ("/input_items?limit=x", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=msg_unknown", "after"),
        ("/input_items?before=msg_unknown", "before"),
        ("?stream=true", "stream"),
        ("?starting_after=3", "starting_after"),
    ],
)
async def test_what_a_list_cannot_do_is_refused(tmp_path: Path, path: str, param: str) -> None:
    """A parameter that cannot be honoured is named."""
    async with guarded(tmp_path) as guard:
        body = await respond(guard)
        status, error = await call(guard, "GET", body["id"] + path)

    assert (status, error["error"]["param"]) == (400, param)


async def test_cancelling_is_for_the_background_only(tmp_path: Path) -> None:
    """A response that can be named is over, so there is nothing to cancel."""
    async with guarded(tmp_path) as guard:
        body = await respond(guard)
        status, error = await call(guard, "POST", body["id"] + "/cancel")

    assert (status, error["error"]["code"]) == (400, "not_cancellable")


async def test_stored_thinking_follows_the_keys_scope(tmp_path: Path) -> None:
    """A key that loses the right to see the thinking does not find it in what it had stored."""
    lost: Any = {"keys": ({**KEYS["keys"][2], "scopes": ["chat"]},)}
    async with guarded(tmp_path, **KEYS) as guard:
        body = await respond(guard, headers=bearer(FULL))
    async with guarded(tmp_path, **lost) as guard:
        status, again = await call(guard, "GET", body["id"], bearer(FULL))

    assert status == 200
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    assert [item["type"] for item in again["output"]] == ["message"]


async def test_an_answer_that_cannot_be_stored_is_given_and_says_so(tmp_path: Path) -> None:
    """Without its table the store fails; the answer and its record do not."""
    async with guarded(tmp_path) as guard:
        first = await respond(guard)
        with closing(sqlite3.connect(guard.database)) as database:
            database.execute("DROP TABLE responses")
        body = await respond(guard)
        told = await stream(guard)
        status, error = await call(guard, "GET", first["id"])
        outcomes = [record.outcome for record in await guard.records()]

    assert (body["store"], told.response["store"]) == (False, False)
    assert (status, error["error"]["code"]) == (503, "store_unavailable")
    assert outcomes == [Outcome.ANSWERED] * 3
