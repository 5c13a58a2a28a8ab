"""The guard's OpenAPI document, and whether the guard does as it says: schemathesis asks all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.routing import Route

from guard.api.openapi import document
from guard.api.openapi_operations import OPERATIONS
from guard.api.state import Service
from guard.app import create_app
from guard.keys import hash_key
from tests.guarded import HARMLESS, REFUSING, Guarded, answering, engine_reply, guarded
from tests.scripted import ReceivedRequest, Reply

DOCUMENT = document()
API = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
]
pytestmark = pytest.mark.proxy  # the guard of all these tests is one and the same


def engine(request: ReceivedRequest) -> Reply:
    """Answers, refuses, calls tools where there are any, and embeds."""
    if request.path.endswith("/embeddings"):
        return Reply.json({"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1}})
    if request.json.get("tools"):
        return engine_reply("", HARMLESS, tool_calls=[("call_a", "find", "{}")], finish="tool_calls")
    return engine_reply("I cannot help.", REFUSING) if len(request.body) % 3 == 0 else engine_reply()


@pytest.fixture(scope="module", name="guard")
def _guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A guard on a thread of its own, since schemathesis waits for its answers."""
    running = guarded(tmp_path_factory.mktemp("openapi"), engine)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running) as guard:
        answer = answering(engine)
        guard.engine.otherwise(lambda r: engine(r) if r.path.endswith("/embeddings") else answer(r))
        yield guard


def call(guard: Guarded, method: str, path: str, **fields: Any) -> Any:
    """The JSON that one operation answers."""
    return API[path][method].Case(**fields).call(base_url=guard.url.removesuffix("/v1")).json()


def aim(case: schemathesis.Case[Any], guard: Guarded, *, streams: bool) -> None:
    """Ask for what there is, so that not all ends with 404, and for about every other answer as a stream."""
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("model"), str) and body["model"]:
        body["model"] = "default"
    if streams and isinstance(body, dict) and len(str(body)) % 2:
        body["stream"] = True
    if case.headers.get("x-guard-policy"):
        case.headers["x-guard-policy"] = "default"
    known = case.path_parameters
    if "name" in known:
        known["name"] = "default"
    if "response_id" in known:
        asked = {"model": "default", "input": "Hello."}
        known["response_id"] = call(guard, "POST", "/v1/responses", body=asked)["id"]
    if "id" in known:
        known["id"] = call(guard, "GET", "/guard/v1/records", query={"limit": 1})["data"][0]["id"]


@pytest.mark.parametrize("key", OPERATIONS, ids=" ".join)
def test_an_operation_does_as_described(key: tuple[str, str], guard: Guarded) -> None:
    """Whatever is sent: no defect, no status, content type, header or body but those in the document."""
    method, path = key
    operation = API[path][method]
    modes = GenerationMode if operation.body or operation.query else [GenerationMode.POSITIVE]

    @given(case=one_of([operation.as_strategy(mode) for mode in modes]))
    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=60 if operation.body else 15,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        aim(case, guard, streams=OPERATIONS[key].events is not None)
        case.call_and_validate(base_url=guard.url.removesuffix("/v1"), checks=CHECKS)

    ask()


def test_every_route_is_described() -> None:
    """A route without a line in the table of operations, or the other way round, is a mistake."""
    routes = [route for route in create_app(cast(Service, None)).routes if isinstance(route, Route)]
    found = {
        (method, route.path.replace(":path", ""))
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == set(OPERATIONS)


def test_the_document_is_valid() -> None:
    """By the schema of OpenAPI 3.1 itself."""
    API.validate()


@pytest.mark.parametrize(
    "key", [key for key, operation in OPERATIONS.items() if operation.refused], ids=lambda key: str(key[1])
)
def test_a_field_that_is_refused_is_told_with_its_reason(key: tuple[str, str]) -> None:
    """A client learns from the document why a field is not honoured, and which value of it is no offence."""
    method, path = key
    body = DOCUMENT["paths"][path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    fields = DOCUMENT["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]

    for name, reason in OPERATIONS[key].refused.items():
        assert reason in fields[name]["description"]
        assert None in fields[name]["enum"]


async def test_it_is_served_without_a_key_and_tells_nothing_of_the_installation(tmp_path: Path) -> None:
    """The same for everybody: what stands in it was known before any setting, model or policy."""
    keys = [{"name": "app", "hash": hash_key("dg-app"), "scopes": ["chat"]}]
    async with (
        guarded(tmp_path, keys=keys) as guard,
        guard.session.get(guard.url.replace("/v1", "/openapi.json")) as response,
    ):
        served = await response.json()

    assert response.status == 200
    assert served == DOCUMENT
