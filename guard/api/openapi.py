"""``GET /openapi.json``: the guard's own OpenAPI 3.1 document, made from table and request models.

It is the same for every installation of a version: no setting, model or policy is in it, so that no key
is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema
from starlette.requests import Request
from starlette.responses import Response

from guard.api import openapi_answers as answers
from guard.api.messages_errors import is_messages, messages_status
from guard.api.openapi_operations import EVENTS, JSON, OPERATIONS, TEXT, Operation

_REASONS = {
    200: "The answer",
    400: "The request cannot be honoured as it is; the field is named",
    401: "No key, or one that is not known",
    403: "The key lacks the scope",
    404: "No such model, policy or object",
    408: "The body did not arrive in time",
    413: "The body is too large",
    422: "The policy's folder cannot be used; every problem is named, and the old version stays in force",
    502: "The engine failed",
    503: "The guard, its records or the engine cannot take the request now",
    504: "The engine did not answer in time",
    529: "The guard, its records or the engine cannot take the request now",
}
_PARAMETER = re.compile(r"{(\w+)}")
_DESCRIPTION = """\
An OpenAI-compatible endpoint that makes a reasoning model deliberate over a written policy before it answers.
Fields that are not described are refused by name. Answers under a policy say so in their headers."""
_GUARD_HEADERS = {
    "x-guard-request-id": "The id of the answer's records",
    "x-guard-policy": "Name and digest of the policy that was applied",
    "x-guard-decision": "The verdict of each choice; absent where a stream has several",
    "x-guard-not-applied": "Fields that the engine does nothing with",
}


async def openapi(request: Request) -> Response:
    """The document."""
    return Response(_rendered(), media_type=JSON)


def document() -> dict[str, Any]:
    """The document, as JSON values."""
    components = _Components(OPERATIONS.values())
    described: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        described.setdefault(path, {})[method.lower()] = _operation(path, method, operation, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "deliberative-guard",
            "version": version("deliberative-guard"),
            "description": _DESCRIPTION,
        },
        "security": [{"bearer": []}, {"api_key": []}],
        "paths": described,
        "components": {
            "schemas": components.schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


@cache
def _rendered() -> bytes:
    return orjson.dumps(document())


class _Generator(GenerateJsonSchema):
    """Pydantic's, with two changes to what it makes of the request models."""

    def normalize_name(self, name: str) -> str:
        """Where two models share a name, the name of their module is enough to tell them apart."""
        return super().normalize_name(name.removeprefix("guard.api."))

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Alternatives that are told apart by more than a field may overlap for a validator."""
        made = super().tagged_union_schema(schema)
        if "oneOf" in made and "discriminator" not in made:
            made["anyOf"] = made.pop("oneOf")
        return made


class _Components:
    """The schemas of all bodies."""

    def __init__(self, operations: Collection[Operation]) -> None:
        """Make those of these operations."""
        bodies: dict[Any, JsonSchemaMode] = {
            answers.ErrorAnswer: "serialization",
            answers.MessagesErrorAnswer: "serialization",
        }
        for operation in operations:
            given = (operation.request, operation.query)
            bodies |= {body: "validation" for body in given if isinstance(body, type)}
            told = (operation.answer, operation.events, *operation.also.values())
            bodies |= {body: "serialization" for body in told if body is not None}
        made, rest = TypeAdapter.json_schemas(
            [(body, mode, TypeAdapter(body)) for body, mode in bodies.items()],
            ref_template="#/components/schemas/{model}",
            schema_generator=_Generator,
        )
        self.schemas: dict[str, JsonSchemaValue] = rest["$defs"]
        self._refs = {body: schema for (body, _), schema in made.items()}
        for operation in operations:
            if operation.request is not None:
                self._tell_refused(operation.request, operation)

    def ref(self, body: Any) -> JsonSchemaValue:
        """The reference to a body's schema."""
        return self._refs[body]

    def properties(self, body: type[BaseModel]) -> dict[str, JsonSchemaValue]:
        """The schemas of a body's fields."""
        found: dict[str, JsonSchemaValue] = self.schemas[self._name(body)]["properties"]
        return found

    def _name(self, body: Any) -> str:
        return str(self._refs[body]["$ref"].rpartition("/")[2])

    def _tell_refused(self, request: type[BaseModel], operation: Operation) -> None:
        """Fields that are known and refused have the values that ask for nothing."""
        fields = self.properties(request)
        for name, reason in operation.refused.items():
            harmless = list(operation.harmless.get(name, (None,)))
            fields.setdefault(name, {"enum": harmless, "description": f"Not honoured: {reason}."})


def _operation(path: str, method: str, operation: Operation, components: _Components) -> Any:
    made: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}").strip("_"),
        "parameters": list(_parameters(path, operation, components)),
        "responses": dict(_responses(path, operation, components)),
    }
    if operation.request is not None:
        made["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": components.ref(operation.request)}},
        }
    if operation.scope is None:
        made["security"] = []
    else:
        made["description"] = f"Needs a key with the scope `{operation.scope}`, where keys are on."
    return made


def _parameters(path: str, operation: Operation, components: _Components) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if operation.judged:
        text = "The policy to apply, where the key is bound to none; else the default"
        yield {"name": "x-guard-policy", "in": "header", "schema": {"type": "string"}, "description": text}
    query = operation.query
    if isinstance(query, type):
        query = {name: _sent(schema) for name, schema in components.properties(query).items()}
    for name, schema in query.items():
        yield {"name": name, "in": "query", "schema": schema}


def _event(data: JsonSchemaValue, *, done: bool) -> JsonSchemaValue:
    """The schema of each event; its data is JSON in text."""
    text: JsonSchemaValue = {"contentMediaType": JSON, "contentSchema": data}
    if done:
        text = {"anyOf": [{"const": "[DONE]"}, text]}
    return {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"type": "string", **text}},
        "required": ["data"],
    }


def _sent(schema: JsonSchemaValue) -> JsonSchemaValue:
    """A field's schema where it is sent; a query has no null."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _responses(
    path: str, operation: Operation, components: _Components
) -> Iterator[tuple[str, dict[str, Any]]]:
    schema = components.ref(operation.answer) if operation.answer is not None else None
    content = {JSON: {"schema": schema}} if schema else {TEXT: {"schema": {"type": "string"}}}
    if operation.events is not None:
        content[EVENTS] = {"schema": _event(components.ref(operation.events), done=operation.done)}
    answer: dict[str, Any] = {"description": _REASONS[200], "content": content}
    if operation.judged:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in _GUARD_HEADERS.items()
        }
    yield "200", answer
    for status, body in operation.also.items():
        yield (
            str(status),
            {"description": _REASONS[status], "content": {JSON: {"schema": components.ref(body)}}},
        )
    anthropic = is_messages(path)
    error = components.ref(answers.MessagesErrorAnswer if anthropic else answers.ErrorAnswer)
    keyed = (401, 403) if operation.scope is not None else ()
    for status in sorted({*keyed, *operation.errors}):
        told = messages_status(status) if anthropic else status
        yield str(told), {"description": _REASONS[told], "content": {JSON: {"schema": error}}}
