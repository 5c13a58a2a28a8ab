"""The pytest plugin that gathers what came of the client tests, and keeps docs/conformance.md true.

A module of client tests names its client, and each test the endpoint and the features that it proves::

    pytestmark = pytest.mark.client("openai-node")

    @pytest.mark.conformance("chat/completions", "stream", "usage in a stream")

With ``outcome="refused"`` the test proves that the guard declines. ``--conformance=write`` writes the page
after the run, ``--conformance=check`` fails the run where the page says something else.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import cast

import pytest

from tests.clients.conformance import Cell, page

PAGE = Path(__file__).parent.parent / "docs" / "conformance.md"
_PROPERTY = "conformance"
_WORSE = ("works", "refused", "not run", "fails")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that asks for the page."""
    parser.addoption("--conformance", choices=("write", "check"), help="write or check docs/conformance.md")


def pytest_configure(config: pytest.Config) -> None:
    """Gather where asked to, in the process that gets every report."""
    how = config.getoption("--conformance")
    if how and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Conformance(write=how == "write"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the cells of each test into its reports, which travel between processes."""
    for item in items:
        for mark in item.iter_markers("conformance"):
            [client] = item.iter_markers("client")
            endpoint, *features = mark.args
            for feature in features:
                cell = Cell(client.args[0], endpoint, feature)
                try:
                    cell.check()
                except ValueError as error:
                    raise pytest.UsageError(f"{item.nodeid}: {error}") from error
                item.user_properties.append((_PROPERTY, [*cell, mark.kwargs.get("outcome", "works")]))


class Conformance:
    """Gathers outcomes and writes or checks the page at the end."""

    def __init__(self, *, write: bool) -> None:
        """Nothing is gathered yet."""
        self._write = write
        self._outcomes: dict[Cell, str] = {}
        self._difference: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what came of a test: the worst of those that share a cell counts."""
        if report.when != "call" and report.passed:
            return
        for name, value in report.user_properties:
            if name == _PROPERTY:
                client, endpoint, feature, proven = cast(tuple[str, str, str, str], value)
                cell = Cell(client, endpoint, feature)
                came = proven if report.passed else "fails" if report.failed else "not run"
                self._outcomes[cell] = max(self._outcomes.get(cell, came), came, key=_WORSE.index)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page, or fail the run where it says something else."""
        made = page(self._outcomes)
        if self._write:
            PAGE.write_text(made, encoding="utf-8")
            return
        found = PAGE.read_text(encoding="utf-8")
        if made != found:
            lines = difflib.unified_diff(found.splitlines(), made.splitlines(), "the page", "the run", n=0)
            self._difference = list(lines)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how the page differs."""
        if self._difference:
            terminalreporter.section("docs/conformance.md is out of date: run make conformance", red=True)
            terminalreporter.write("\n".join(self._difference) + "\n")
