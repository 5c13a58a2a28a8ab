"""A stand-in for an engine process: serves, forks a grandchild, and dies as ``FAKE_MODE`` says.

It takes the command line of a real engine, of which it only reads ``--port``. Every process it makes
is written as a line to ``FAKE_PIDS``.

    serve       serve until told to end (the default)
    die         print some lines and end with code 3 before serving
    never       run without ever serving
    deaf        refuse the first request
    brief       end shortly after the first request
    sick        answer health checks with 503 after the first request, in the first run only
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time

MODE = os.environ.get("FAKE_MODE", "serve")
PIDS = os.environ["FAKE_PIDS"]


def note(pid: int) -> int:
    """Write a process id down; how many had been before."""
    with open(PIDS, "a+") as file:
        file.seek(0)
        before = len(file.readlines())
        file.write(f"{pid}\n")
    return before


class Handler(http.server.BaseHTTPRequestHandler):
    """The few routes that the guard asks."""

    protocol_version = "HTTP/1.1"
    served = False

    def do_GET(self) -> None:
        ill = MODE == "sick" and Handler.served and FIRST_RUN
        self.reply(503 if ill else 200, {"data": [{"id": "fake"}]}, "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Handler.served = True
        if MODE == "deaf":
            return self.reply(500, {"error": "no"}, "application/json")
        choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
        self.reply(200, {"choices": [choice]}, "text/event-stream")
        if MODE == "brief":
            threading.Timer(0.05, os._exit, [4]).start()

    def reply(self, status: int, body: object, kind: str) -> None:
        data = json.dumps(body).encode()
        if kind == "text/event-stream":
            data = b"data: " + data + b"\n\ndata: [DONE]\n\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def grandchild() -> None:
    """A process that left the group and does not listen to SIGTERM, as engines have them."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    note(os.getpid())
    while True:
        time.sleep(60)


if __name__ == "__main__":
    FIRST_RUN = note(os.getpid()) == 0
    print("fake engine started", flush=True)
    if MODE == "die":
        for at in range(30):
            print(f"line {at}")
        sys.exit(3)
    if os.fork() == 0:
        grandchild()
    if MODE == "never":
        time.sleep(600)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
