"""Requests byte for byte, as no well-behaved client would send them."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import orjson

from tests.guarded import Guarded
from tests.security.surfaces import Body


async def exchange(guard: Guarded, sent: bytes, *, wait: float = 5.0) -> bytes:
    """What comes back on one connection, until the guard closes it or is silent for a while."""
    address = urlsplit(guard.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(sent)
        await writer.drain()
        back = b""
        try:
            while part := await asyncio.wait_for(reader.read(65_536), wait):
                back += part
                if is_whole(back):
                    break
        except TimeoutError:
            pass
        return back
    finally:
        writer.close()


def is_whole(back: bytes) -> bool:
    """Whether an answer with a declared length is there in full."""
    head, blank, rest = back.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if blank and line.startswith(b"content-length:"):
            return len(rest) >= int(line.partition(b":")[2])
    return False


def post(path: str, body: Body | bytes, *headers: str, length: bool = True) -> bytes:
    """A POST with these header lines."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"POST {path} HTTP/1.1", "Host: guard", "Content-Type: application/json", *headers]
    if length:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def status(back: bytes) -> int:
    """The status of the first answer; 0 where there is none."""
    first = back.split(b"\r\n", 1)[0].split(b" ")
    return int(first[1]) if len(first) > 1 else 0
