from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from guard.logs import configure_logs


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_logged_bug_shows_where_it_is_and_no_variables(
    form: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    """Variables of a failing function hold prompts, answers and keys, which no log may have."""

    def fail(prompt: str) -> None:
        answer = prompt.upper()
        raise ValueError(len(answer))

    configure_logs(form)
    try:
        fail("".join(["sec", "ret words"]))
    except ValueError as error:
        structlog.get_logger().error("bug", exc_info=error)
    told = capsys.readouterr().err

    assert "in fail" in told
    assert "secret" not in told.lower()
