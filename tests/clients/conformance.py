"""The table of clients: its endpoints and features, which of them a client has, and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FEATURES: Mapping[str, tuple[str, ...]] = {
    "chat/completions": (
        "answer",
        "stream",
        "usage in a stream",
        "thinking",
        "tools",
        "tools in a stream",
        "structured output",
        "refusal",
        "errors",
        "broken stream",
        "abort",
        "storing",
    ),
    "responses": (
        "answer",
        "stream",
        "thinking",
        "tools",
        "tools in a stream",
        "structured output",
        "refusal",
        "errors",
        "broken stream",
        "abort",
        "stored responses",
        "background",
    ),
    "messages": (
        "answer",
        "stream",
        "usage in a stream",
        "thinking",
        "tools",
        "tools in a stream",
        "refusal",
        "errors",
        "broken stream",
        "abort",
        "counting tokens",
        "container",
    ),
    "completions": ("answer", "stream"),
    "embeddings": ("vectors",),
    "moderations": ("judgement",),
    "models": ("list",),
}
"""Rows of the table: endpoints, and what a client can ask of each."""

_OPENAI: Mapping[str, tuple[str, ...]] = {name: () for name in FEATURES if name != "messages"}
_ONLY_WHOLE = ("stream", "usage in a stream", "tools in a stream", "broken stream", "abort", "storing")
CLIENTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "openai-python": _OPENAI,
    "openai-node": _OPENAI,
    "openai-agents": {"chat/completions": (), "responses": ("background",)},
    "anthropic": {"messages": (), "models": ()},
    "@ai-sdk/openai-compatible": {"chat/completions": ("storing",), "completions": (), "embeddings": ()},
    "langchain-openai": {
        "chat/completions": ("thinking",),
        "responses": (),
        "completions": (),
        "embeddings": (),
    },
    "litellm": {
        **{name: () for name in _OPENAI if name != "models"},
        "responses": ("abort",),  # it fetches whole what it then streams
        "messages": (),
    },
    "inspect-ai": {
        "chat/completions": ("abort", "storing"),
        "responses": ("abort", "stored responses", "background"),
    },
    "garak": {"chat/completions": (*_ONLY_WHOLE, "thinking", "tools", "structured output")},
}
"""Columns of the table: the endpoints that a client calls, each with the features it cannot ask for."""


class Cell(NamedTuple):
    """One place in the table."""

    client: str
    endpoint: str
    feature: str

    def check(self) -> None:
        """Be sure that the table has this place.

        Raises:
            ValueError: It has not, or the client is said to lack it.
        """
        lacking = CLIENTS.get(self.client, {}).get(self.endpoint)
        if lacking is None or self.feature in lacking or self.feature not in FEATURES[self.endpoint]:
            raise ValueError(f"{self}: not in the table of tests/clients/conformance.py")


HEAD = """\
# Clients

<!-- Made by `make conformance` from the outcomes of tests/clients; change the tests. -->

What each client does in front of the guard. A cell is what came of its tests in `tests/clients`, which put
the real client in front of a real guard with a scripted engine:

- **works**: the client gets what it asks for, in its own types;
- **refused**: the guard declines with 400 and the field's name, and the client raises its own error;
- **–**: not applicable, the client as it is used here has no way to ask for it;
- empty: the client could ask for it, and no test does.

`make clients` runs them all, and fails where this page says something else.
"""


def page(outcomes: Mapping[Cell, str]) -> str:
    """The page, from what came of each cell's tests."""
    rows = [
        f"| {' | '.join(('endpoint', 'feature', *CLIENTS))} |",
        f"|{'---|' * (len(CLIENTS) + 2)}",
    ]
    for endpoint, features in FEATURES.items():
        for feature in features:
            cells = [_told(Cell(client, endpoint, feature), outcomes) for client in CLIENTS]
            rows.append(f"| {' | '.join((f'`/v1/{endpoint}`', feature, *cells))} |")
    return f"{HEAD}\n" + "\n".join(rows) + "\n"


def _told(cell: Cell, outcomes: Mapping[Cell, str]) -> str:
    lacking = CLIENTS[cell.client].get(cell.endpoint)
    if lacking is None or cell.feature in lacking:
        return "–"
    return outcomes.get(cell, "")
