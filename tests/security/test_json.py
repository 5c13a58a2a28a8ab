"""Bodies that two readers could read differently, and bodies meant to hurt whoever reads them."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import zlib
from pathlib import Path

import orjson
import pytest

from guard.audit.record import Outcome
from tests.guarded import Guarded, engine_reply, guarded
from tests.security.surfaces import (
    CHAT,
    COMPLETIONS,
    HARMFUL,
    MESSAGES,
    QUESTION,
    RESPONSES,
    SURFACES,
    Body,
    Surface,
    each_surface,
    tell,
)
from tests.security.wire import exchange, post, status

CONVERSATION = {CHAT: "messages", RESPONSES: "input", MESSAGES: "messages", COMPLETIONS: "prompt"}


def twice(body: Body, name: str, value: object) -> bytes:
    """A body in which a field stands a second time, after the first."""
    return orjson.dumps(body)[:-1] + b"," + orjson.dumps(name) + b":" + orjson.dumps(value) + b"}"


@each_surface()
async def test_of_a_field_that_stands_twice_everybody_sees_the_last(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """What is validated, searched, recorded and sent to the engine is one and the same value."""
    name = CONVERSATION[surface]
    harmful = surface.ask(HARMFUL)[name]
    escaped = name[0].encode("utf-16-be").hex()
    other_spelling = orjson.dumps(surface.ask())[:-1] + b',"\\u%b%b":%b}' % (
        escaped.encode(),
        name[1:].encode(),
        orjson.dumps(harmful),
    )
    async with guarded(tmp_path) as guard:
        for body in (twice(surface.ask(QUESTION), name, harmful), other_spelling):
            told = await tell(guard, surface, body)
            sent = guard.calls[-1].json["messages"]
            record = (await guard.records())[-1]
            assert told.status == 200
            assert HARMFUL in str(sent)
            assert QUESTION not in str(sent) + record.messages
            assert HARMFUL in record.messages
            assert "self-harm" in record.sections

        streamed = await tell(guard, surface, twice(surface.ask() | {"stream": not stream}, "stream", stream))
        assert streamed.headers["content-type"].startswith("text/event-stream") is stream


@each_surface()
async def test_a_second_field_is_checked_like_the_first(
    tmp_path: Path, surface: Surface, stream: bool
) -> None:
    """A refused value does not hide behind a harmless one, on any level."""
    async with guarded(tmp_path) as guard:
        for name, harmless, refused in (
            ("echo", False, True),
            ("logit_bias", None, {"1": -100}),
            ("model", "default", "other"),
            (surface.limit, 10, 10**9),
        ):
            body = surface.ask() | {name: harmless} | ({"stream": True} if stream else {})
            told = await tell(guard, surface, twice(body, name, refused))
            assert told.status in {400, 404}, name

        inner = orjson.dumps(CHAT.ask()).replace(b'"role":"user"', b'"role":"user","role":"assistant"')
        assert (await tell(guard, CHAT, inner)).status == 400
        assert guard.calls == []


NOT_JSON = {
    "not a number": b'{"temperature": NaN}',
    "infinity": b'{"temperature": Infinity}',
    "minus infinity": b'{"temperature": -Infinity}',
    "beyond a double": b'{"temperature": 1e400}',
    "half a surrogate pair": b'{"user": "\\ud800"}',
    "surrogates the wrong way round": b'{"user": "\\udc00\\ud800"}',
    "a surrogate in UTF-8": b'{"user": "\xed\xa0\x80"}',
    "bytes that are no UTF-8": b'{"user": "\xff"}',
    "an overlong slash": b'{"user": "\xc0\xaf"}',
    "UTF-16": '{"user": "a"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"user": "a"}',
    "a raw zero byte": b'{"user": "\x00"}',
    "a raw newline in a text": b'{"user": "a\nb"}',
    "a comment": b'{"user": "a" /* */}',
    "a trailing comma": b'{"user": "a",}',
    "single quotes": b"{'user': 'a'}",
    "two values": b"{}{}",
    "something after the end": b"{} x",
    "a leading zero": b'{"seed": 01}',
    "half an object": b'{"user": "a"',
    "deep arrays": b"[" * 5000 + b"]" * 5000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "open arrays without end": b"[" * 1_000_000,
}


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_what_is_no_json_is_no_request(tmp_path: Path, surface: Surface) -> None:
    """Nothing is guessed, repaired or cut: 400, and the guard lives."""
    async with guarded(tmp_path) as guard:
        for name, body in NOT_JSON.items():
            assert (await tell(guard, surface, body)).status == 400, name

        assert guard.calls == []
        assert (await tell(guard, surface, surface.ask())).status == 200


NUMBERS = [10**30, -(10**30), 1e300, -1e300, 2**63, 2**64, -(2**63) - 1, 1.5, True, "1" * 5000, [], {}]


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_huge_numbers_are_refused_by_name(tmp_path: Path, surface: Surface) -> None:
    """Limits, counts and temperatures have bounds; what is out of them is 400 and never 500."""
    fields = [surface.limit, "temperature", "top_p"] + (["n", "seed"] if surface.choices else [])
    async with guarded(tmp_path) as guard:
        for field in fields:
            for number in NUMBERS:
                told = await tell(guard, surface, json.dumps(surface.ask() | {field: number}).encode())
                assert told.status in {200, 400}, (field, number)
                assert told.status == 200 or field.encode() in told.raw, (field, number, told.error)
        sent = [call.json for call in guard.calls]

    assert all(0 <= body.get("temperature", 1) <= 2 and body.get("max_tokens", 1) <= 200_000 for body in sent)


@each_surface()
async def test_texts_of_every_character_pass_through(tmp_path: Path, surface: Surface, stream: bool) -> None:
    """Zero bytes, separators, direction marks and emoji are text: answered, recorded and sent as they are."""
    text = "a\x00b\u2028c\u202ed\ufeff\U0001f52a\uffff\x7f\x1b[2J"
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, surface.ask(text), stream=stream)
        sent = guard.calls[0].json["messages"][-1]["content"]
        record = (await guard.records())[0]

    assert told.status == 200
    assert (sent if isinstance(sent, str) else sent[0]["text"]) == text
    assert record.outcome is Outcome.ANSWERED


def nested(depth: int) -> object:
    """An object in an object, so deep."""
    value: object = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


def free_places(depth: int) -> list[tuple[Surface, Body]]:
    """Every place in which an endpoint takes any JSON, with such an object in it."""
    return [
        (
            CHAT,
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": nested(depth)}}}]},
        ),
        (CHAT, CHAT.schema({"x": nested(depth)})),
        (
            CHAT,
            {
                "messages": [
                    {"role": "assistant", "content": "x", "annotations": nested(depth)},
                    {"role": "user", "content": "x"},
                ]
            },
        ),
        (
            RESPONSES,
            {"input": [{"type": "reasoning", "content": nested(depth)}, {"role": "user", "content": "x"}]},
        ),
        (RESPONSES, RESPONSES.schema({"x": nested(depth)})),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {"x": nested(depth)}}]}),
        (MESSAGES, MESSAGES.schema({"x": nested(depth)})),
    ]


@pytest.mark.parametrize(("surface", "fields"), free_places(200), ids=lambda value: str(value)[:60])
async def test_deep_values_in_free_places_are_refused(tmp_path: Path, surface: Surface, fields: Body) -> None:
    """Where an endpoint takes any JSON, none is taken that could not be written again."""
    async with guarded(tmp_path) as guard:
        told = await tell(guard, surface, json.dumps(surface.ask() | fields).encode())

        assert (told.status, "deep" in told.error, guard.calls) == (400, True, [])


@pytest.mark.parametrize(("surface", "fields"), free_places(44), ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("stream", [False, True])
async def test_values_as_deep_as_allowed_are_answered(
    tmp_path: Path, surface: Surface, fields: Body, stream: bool
) -> None:
    """They are searched, disarmed, recorded, sent and told again without running out of anything."""
    body = surface.ask() | fields
    async with guarded(tmp_path, lambda request: engine_reply('{"x": 1}')) as guard:
        told = await tell(guard, surface, body, stream=stream)
        records = await guard.records()

    assert (told.status, told.error) == (200, "")
    assert [record.outcome for record in records] == [Outcome.ANSWERED]


DEEP_ARGUMENTS = '{"a":' * 900 + "1" + "}" * 900


async def test_tool_arguments_may_be_any_text(tmp_path: Path) -> None:
    """They are JSON within a text: deep, broken or empty, they are searched as what they are."""
    async with guarded(tmp_path) as guard:
        for arguments in (DEEP_ARGUMENTS, '{"a":' * 5000, "", "{", "[]", '{"a": 1, "a": 2}', "\x00"):
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
            messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": HARMFUL}]
            told = await tell(guard, CHAT, CHAT.ask() | {"messages": messages})
            assert told.status == 200
            assert guard.calls[-1].json["messages"][1]["tool_calls"][0]["function"]["arguments"] == arguments


BOMB = b"[" + b"0," * 20_000_000 + b"0]"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(BOMB, 1)),
        ("deflate", zlib.compress(BOMB, 1)),
        ("x-bzip2", bz2.compress(BOMB[:1000])),
        ("identity, gzip", gzip.compress(BOMB[:1000])),
        ("GZIP", gzip.compress(BOMB[:1000])),
        ("br", b"\x00"),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("", gzip.compress(BOMB[:1000])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_nothing_is_unpacked(tmp_path: Path, encoding: str, packed: bytes) -> None:
    """A compressed body is refused before a byte of it is looked at, on every endpoint."""
    async with guarded(tmp_path) as guard:
        for surface in SURFACES:
            told = await tell(guard, surface, packed, stream=False, **{"content-encoding": encoding})
            assert told.status == 400

        assert guard.calls == []


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_a_body_over_the_limit_is_not_waited_for(tmp_path: Path, surface: Surface) -> None:
    """Declared or not, it is 413, and the connection is closed."""
    big = orjson.dumps(surface.ask("x" * 5000))
    chunk = b"%x\r\n%b\r\n" % (len(big), big)
    declared = post(f"/v1{surface.path}", b"", f"Content-Length: {10**12}", length=False)
    chunked = post(f"/v1{surface.path}", chunk, "Transfer-Encoding: chunked", length=False)
    async with guarded(tmp_path, limits={"body_bytes": 2048}) as guard:
        for sent in (declared, chunked):
            back = await exchange(guard, sent)
            assert status(back) == 413, back
            assert b"connection: close" in back.lower()


@pytest.mark.parametrize("surface", SURFACES, ids=str)
async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, surface: Surface) -> None:
    """A client that stops in the middle of its body gets 408, and the connection is closed."""
    begun = post(f"/v1{surface.path}", orjson.dumps(surface.ask())[:20], "Content-Length: 999", length=False)
    async with guarded(tmp_path, limits={"body_seconds": 0.2}) as guard:
        back = await exchange(guard, begun)

        assert status(back) == 408, back
        assert b"connection: close" in back.lower()
        assert guard.calls == []


async def _drip(guard: Guarded, surface: Surface) -> int:
    reader, writer = await asyncio.open_connection(*_address(guard))
    writer.write(post(f"/v1{surface.path}", b"", "Content-Length: 9999", length=False))
    try:
        while not reader.at_eof() and not (back := await _now(reader)):
            writer.write(b" ")
            await asyncio.sleep(0.02)
        return status(back)
    finally:
        writer.close()


async def _now(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(65_536), 0.01)
    except TimeoutError:
        return b""


def _address(guard: Guarded) -> tuple[str, int]:
    host, _, port = guard.url.removeprefix("http://").removesuffix("/v1").partition(":")
    return host, int(port)


async def test_a_body_that_drips_is_not_waited_for_either(tmp_path: Path) -> None:
    """The time is for the whole body, so that a byte now and then keeps nothing open."""
    async with guarded(tmp_path, limits={"body_seconds": 0.3}) as guard:
        assert await asyncio.wait_for(_drip(guard, CHAT), 10) == 408
        assert (await tell(guard, CHAT, CHAT.ask())).status == 200


async def test_what_a_web_page_can_send_unasked_is_refused(tmp_path: Path) -> None:
    """A page in a browser cannot use a guard without keys on the same machine."""
    async with guarded(tmp_path) as guard:
        for surface in SURFACES:
            for kind in (
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "",
            ):
                told = await tell(guard, surface, surface.ask(), stream=False, **{"content-type": kind})
                assert (told.status, "Content-Type" in told.error) == (400, True), kind
        root = guard.url.removesuffix("/v1")
        headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
        async with guard.session.options(f"{root}/v1/chat/completions", headers=headers) as response:
            assert response.status == 405
            assert not any(name.lower().startswith("access-control") for name in response.headers)

        assert guard.calls == []
