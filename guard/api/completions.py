"""``POST /v1/completions``: every prompt becomes a chat of one user message, and is deliberated."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from guard.api.admission import FieldNames, Opened, new_exchange, open_request
from guard.api.answer import StreamedAnswer, WholeAnswer
from guard.api.completions_request import CompletionRequest
from guard.api.completions_response import TextWriter, completion
from guard.errors import InvalidRequest
from guard.pipeline.exchange import Exchange


async def completions(request: Request) -> WholeAnswer | StreamedAnswer:
    """Answer each prompt after deliberating over the policy."""
    opened = await open_request(request, CompletionRequest)
    service, asked = opened.service, opened.asked
    service.check_model(asked.model)
    prepare = service.pipeline.prepare
    prepared, *further = await asyncio.gather(*[prepare(e, opened.snapshot) for e in admit(opened)])
    if asked.stream:
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        writer = TextWriter(prepared, include_usage=include_usage)
        return StreamedAnswer(service.pipeline, prepared, writer, service.ping_seconds, further=further)
    return WholeAnswer(
        service.pipeline, prepared, lambda choices: completion(prepared, choices), further=further
    )


def admit(opened: Opened[CompletionRequest]) -> list[Exchange]:
    """One exchange for each prompt, all under one request id.

    Raises:
        InvalidRequest: It asks for more than one request may.
    """
    asked, limits = opened.asked, opened.service.limits
    exchange = new_exchange(
        "completions",
        opened.caller,
        limits,
        FieldNames(messages="prompt"),
        model=asked.model,
        stream=bool(asked.stream),
        messages=[],
        choices=asked.n or 1,
        sampling=asked.sampling,
        labels=asked.labels,
        stop=asked.stops,
        max_tokens=asked.max_tokens,
        seed=asked.seed,
    )
    if len(asked.prompts) * (asked.n or 1) > limits.choices:
        raise InvalidRequest(
            f"At most {limits.choices} answers are given at once; {len(asked.prompts)} prompts with "
            f"n = {asked.n or 1} are more.",
            param="prompt",
        )
    return [exchange._replace(messages=[{"role": "user", "content": prompt}]) for prompt in asked.prompts]
