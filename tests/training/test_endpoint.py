import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import ROOT, Answer, ScriptedEndpoint, choices
from training.endpoint import Cache, ask_all
from training.errors import EndpointError
from training.recipe import Endpoint

Make = Callable[[Answer], ScriptedEndpoint]


def bodies(count: int) -> list[dict[str, Any]]:
    """Different requests."""
    return [{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(count)]


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    """Answer with the question."""
    return 200, choices(body["messages"][-1]["content"])


def test_replies_come_in_order_and_are_asked_once(scripted: Make, tmp_path: Path) -> None:
    """The second run asks nothing; equal requests are sent once."""
    endpoint = scripted(echo)
    asked = [*bodies(20), bodies(1)[0]]
    for _ in range(2):
        with Cache(tmp_path / "cache.sqlite") as cache:
            replies = ask_all(endpoint.settings, cache, asked)
        assert [r[0].text for r in replies] == [b["messages"][0]["content"] for b in asked]
    assert len(endpoint.bodies) == 20


def test_overload_is_tried_again(scripted: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 followed by an answer is an answer."""
    monkeypatch.setattr("training.endpoint.FIRST_PAUSE_SECONDS", 0.0)
    replies = iter([(503, {"error": "busy"}), (200, choices("late"))])
    with Cache(tmp_path / "cache.sqlite") as cache:
        [[reply]] = ask_all(scripted(lambda body: next(replies)).settings, cache, bodies(1))
    assert reply.text == "late"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((400, {"error": "no such model"}), "status 400.*no such model"),
        ((200, {"object": "nothing"}), "not a chat completion"),
        ((200, b"<html>"), "not a chat completion"),
    ],
)
def test_what_cannot_be_used_is_an_error(
    scripted: Make, tmp_path: Path, answer: tuple[int, Any], message: str
) -> None:
    """Refusals and foreign replies end the stage with what was said."""
    with Cache(tmp_path / "cache.sqlite") as cache, pytest.raises(EndpointError, match=message):
        ask_all(scripted(lambda body: answer).settings, cache, bodies(1))


def test_an_endpoint_that_is_down_loses_nothing(
    scripted: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered before is kept; the next run asks only the rest."""
    monkeypatch.setattr("training.endpoint.FIRST_PAUSE_SECONDS", 0.0)
    first = scripted(echo)
    with Cache(tmp_path / "cache.sqlite") as cache:
        ask_all(first.settings, cache, bodies(5))
        first.close()
        with pytest.raises(EndpointError, match="What was answered so far is kept"):
            ask_all(first.settings, cache, bodies(8))
    second = scripted(echo)
    with Cache(tmp_path / "cache.sqlite") as cache:
        assert len(ask_all(second.settings, cache, bodies(8))) == 8
    assert len(second.bodies) == 3


def test_a_key_that_is_not_set_is_named(tmp_path: Path) -> None:
    """The recipe names the variable, never the key."""
    endpoint = Endpoint(url="http://127.0.0.1:9/v1", model="m", key_variable="NO_SUCH_KEY")
    with Cache(tmp_path / "cache.sqlite") as cache, pytest.raises(EndpointError, match="NO_SUCH_KEY"):
        ask_all(endpoint, cache, bodies(1))


KILLED = """
import sys
from pathlib import Path
from training.endpoint import Cache, ask_all
from training.recipe import Endpoint
bodies = [{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(12)]
with Cache(Path(sys.argv[2])) as cache:
    ask_all(Endpoint(url=sys.argv[1], model="scripted", concurrency=1), cache, bodies)
"""


def test_kill_9_in_the_middle_loses_no_reply(scripted: Make, tmp_path: Path) -> None:
    """Every reply that arrived before the kill is there after it; the rest is asked again."""

    def slow(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.1)
        return echo(body)

    endpoint = scripted(slow)
    cache_path = tmp_path / "cache.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, endpoint.settings.url, str(cache_path)],
        cwd=ROOT,
        env=os.environ.copy(),
    )
    deadline = time.monotonic() + 30
    while len(endpoint.bodies) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = len(endpoint.bodies)
    assert 5 <= before < 12
    with Cache(cache_path) as cache:
        assert len(ask_all(endpoint.settings, cache, bodies(12))) == 12
    assert len(endpoint.bodies) - before <= 12 - (before - 1)
