"""Every test of the service runs twice: through the proxy, and through the middleware."""

from __future__ import annotations

import pytest

from tests import guarded


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each way, but for those that are about the way to the engine."""
    if "front" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("proxy")
        metafunc.parametrize("front", ["proxy"] if only else ["proxy", "middleware"])


@pytest.fixture(autouse=True)
def _front(front: guarded.Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "FRONT", front)
