"""The table of request fields: what becomes of each on every endpoint that answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import NamedTuple, Self

from pydantic import BaseModel

from guard.api import chat, messages, responses
from guard.api.chat_request import ChatRequest
from guard.api.completions_request import CompletionRequest
from guard.api.messages_request import MessagesRequest
from guard.api.responses_request import ResponsesRequest
from guard.api.sampling_fields import FORWARDED


class Endpoint(NamedTuple):
    """What one endpoint does with fields."""

    name: str
    request: type[BaseModel]
    forwarded: tuple[str, ...]
    refused: Mapping[str, str]
    harmless: Mapping[str, tuple[object, ...]]

    def does(self, field: str) -> str:
        """With this field."""
        if field in self.forwarded:
            return "forwarded"
        return (
            "handled" if field in self.request.model_fields else "refused" if field in self.refused else "–"
        )

    @classmethod
    def of(cls, path: str, request: type[BaseModel], *forwarded: str) -> Self:
        """The one whose request this is."""
        module = sys.modules[request.__module__]
        return cls(path, request, forwarded, module.REFUSED_HERE, module.HARMLESS_HERE)


ANSWERING = (
    Endpoint.of("/v1/chat/completions", ChatRequest, *FORWARDED, *chat.FORWARDED),
    Endpoint.of("/v1/completions", CompletionRequest, *FORWARDED),
    Endpoint.of("/v1/responses", ResponsesRequest, *FORWARDED, *responses.FORWARDED),
    Endpoint.of("/v1/messages", MessagesRequest, *messages.FORWARDED),
)


def table() -> str:
    """A row for every field that any endpoint has or refuses."""
    honoured = dict.fromkeys(name for endpoint in ANSWERING for name in endpoint.request.model_fields)
    refused = sorted({name for endpoint in ANSWERING for name in endpoint.refused} - honoured.keys())
    rows = [
        f"| field | {' | '.join(f'`{endpoint.name}`' for endpoint in ANSWERING)} | what of it |",
        f"|---|{'---|' * len(ANSWERING)}---|",
    ]
    for name in (*honoured, *refused):
        cells = [endpoint.does(name) for endpoint in ANSWERING]
        rows.append(f"| `{name}` | {' | '.join(cells)} | {_told_of(name)} |")
    return "\n".join(rows) + "\n"


def _told_of(name: str) -> str:
    """What is said of a field: its meaning, then why it is refused where it is."""
    told = [
        cell(e.request.model_fields[name].description) for e in ANSWERING if name in e.request.model_fields
    ]
    accepted: dict[str, dict[str, None]] = {}
    for endpoint in ANSWERING:
        if name in endpoint.refused:
            values = [value for value in endpoint.harmless.get(name, ()) if value is not None]
            known = accepted.setdefault(endpoint.refused[name], {})
            known.update(dict.fromkeys(f"`{json.dumps(value)}`" for value in values))
    for reason, known in accepted.items():
        nothing = f" ({', '.join(known)})" if known else ""
        told.append(f"Refused: {reason}{nothing}.")
    return " ".join(dict.fromkeys(filter(None, told)))


def cell(docstring: str | None) -> str:
    """A docstring as the cell of a table."""
    return " ".join((docstring or "").split()).replace("``", "`").replace("|", "\\|")
