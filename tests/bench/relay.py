"""The peer: the least a Starlette + aiohttp proxy can do. Run by throughput.py with uvicorn.

It reads the body, sends it on, and relays what comes back, as bytes. No key, no policy, no record.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

UPSTREAM = os.environ.get("RELAY_UPSTREAM", "")


async def relay(request: Request) -> Response:
    """Send the request on and return the answer whole."""
    session: aiohttp.ClientSession = request.app.state.session
    async with session.post(UPSTREAM + "/chat/completions", data=await request.body()) as response:
        return Response(await response.read(), response.status, media_type="application/json")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One session for all requests."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
    async with aiohttp.ClientSession(
        connector=connector, headers={"content-type": "application/json"}
    ) as session:
        app.state.session = session
        yield


app = Starlette(routes=[Route("/v1/chat/completions", relay, methods=["POST"])], lifespan=lifespan)
