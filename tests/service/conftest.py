"""Every test of the service runs twice: through the proxy, and through the middleware.

Of the second way the short run takes what an application meets first; ``-m slow`` takes the rest.
"""

from __future__ import annotations

import pytest

from tests import guarded

FIRST_MET = {
    "test_chat",
    "test_enforcement",
    "test_engine_faults",
    "test_keys",
    "test_messages",
    "test_responses",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each way, but for those that are about the way to the engine."""
    if "front" in metafunc.fixturenames:
        ways: list[object] = ["proxy"]
        if not metafunc.definition.get_closest_marker("proxy"):
            module = metafunc.module.__name__.rpartition(".")[2]
            marks = () if module in FIRST_MET else (pytest.mark.slow,)
            ways.append(pytest.param("middleware", marks=marks))
        metafunc.parametrize("front", ways)


@pytest.fixture(autouse=True)
def _front(front: guarded.Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "FRONT", front)
