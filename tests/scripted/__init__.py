"""A scripted upstream: an HTTP server on a raw socket that answers each request by a script.

It is the one fake of an engine in this repository. Because it owns the socket, it can do what real
servers do on bad days: pause between any two bytes, reset at byte k, stall, close a kept-alive
connection just as the next request arrives.

    async with ScriptedEngine() as engine:
        engine.script(Reply.sse(chat_events("Hello.", "Think first.")))     # the next request
        engine.otherwise(Reply.json({"status": "ok"}))                      # every later one
        ... talk to engine.base_url ...
        assert engine.requests[0].json["stream"] is True

A reply is a sequence of steps: bytes to send, a ``Pause``, an ``asyncio.Event`` to wait for (so
that a test, not a clock, decides when the stream goes on), ``STALL``, ``RESET`` or ``CLOSE``. A
client that goes away before its reply is complete sets ``request.disconnected``. A reply may also
be a function of the request, for servers that answer each path or prompt differently.

``ScriptedApp`` plays the same replies as a Starlette app, for a guard in the app's own process; bytes
that only a socket could carry it cannot play.
"""

from tests.scripted.app import ScriptedApp
from tests.scripted.chat import DONE, ReasoningStyle, chat_events, sse_event
from tests.scripted.engine import ScriptedEngine
from tests.scripted.reply import CLOSE, RESET, STALL, Halt, Pause, Reply, Step
from tests.scripted.request import ReceivedRequest
from tests.scripted.script import Answer, Script

__all__ = [
    "CLOSE",
    "DONE",
    "RESET",
    "STALL",
    "Answer",
    "Halt",
    "Pause",
    "ReasoningStyle",
    "ReceivedRequest",
    "Reply",
    "Script",
    "ScriptedApp",
    "ScriptedEngine",
    "Step",
    "chat_events",
    "sse_event",
]
