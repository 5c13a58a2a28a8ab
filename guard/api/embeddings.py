"""``POST /v1/embeddings``: passed to the engine as it is.

Vectors answer nobody, so there is no policy in this and no record of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import Response

from guard.api.admission import read_request
from guard.api.chat_request import Text
from guard.api.disconnect import WhileConnected
from guard.errors import NotFound, UpstreamError
from guard.pipeline.events import ClientLeft

Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=131_072)]

_MOST = 2048
"""Inputs in one request, as OpenAI has it."""


def _form(value: Any) -> str:
    if isinstance(value, str):
        return "~text"
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int):
        return "~tokens"
    return "~lists" if isinstance(first, list) else "~texts"


class EmbeddingRequest(BaseModel):
    """A request for vectors, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Annotated[
        Annotated[Text, Tag("~text")]
        | Annotated[list[Text], Field(min_length=1, max_length=_MOST), Tag("~texts")]
        | Annotated[Tokens, Tag("~tokens")]
        | Annotated[list[Tokens], Field(max_length=_MOST), Tag("~lists")],
        Discriminator(_form),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None


async def embeddings(request: Request) -> Response:
    """The engine's vectors for each input."""
    service, _, asked = await read_request(request, EmbeddingRequest)
    try:
        async with WhileConnected(request.receive):
            answer = await service.post_json("embeddings", asked.model_dump(exclude_none=True))
    except ClientLeft:
        return Response(status_code=499)
    except UpstreamError as error:
        if error.engine_status != 404:
            raise
        raise NotFound(
            f"The engine offers no embeddings under the model {asked.model!r}.",
            param="model",
            code="model_not_found",
        ) from error
    return Response(orjson.dumps(_normal(answer, asked.model)), media_type="application/json")


def _normal(answer: Any, model: str) -> dict[str, Any]:
    """OpenAI's fields and no others; the model as the client named it.

    Raises:
        UpstreamError: The engine sent something else.
    """
    try:
        data = [
            {"object": "embedding", "index": item["index"], "embedding": item["embedding"]}
            for item in answer["data"]
        ]
        usage = answer.get("usage") or {}
        tokens = usage.get("prompt_tokens") or 0
        counted = {"prompt_tokens": tokens, "total_tokens": usage.get("total_tokens") or tokens}
    except (KeyError, TypeError, AttributeError) as error:
        raise UpstreamError(
            "The engine sent an answer that is not embeddings.", code="engine_bad_answer"
        ) from error
    return {"object": "list", "data": data, "model": model, "usage": counted}
