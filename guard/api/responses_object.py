"""The response object, from its beginning to its end."""

from __future__ import annotations

import time
from typing import Any

from guard.api.responses_ids import response_id
from guard.api.responses_output import Output, Shown
from guard.api.responses_request import ResponsesRequest
from guard.errors import ApiError
from guard.pipeline.exchange import Exchange
from guard.pipeline.usage import Usage

Response = dict[str, Any]


def begun(exchange: Exchange, asked: ResponsesRequest, shown: Shown) -> Response:
    """A response that nothing is known of yet but the request.

    Args:
        exchange: As admitted.
        asked: As the client sent it.
        shown: How the thinking is shown.
    """
    text: dict[str, Any] = {"format": {"type": "text"}, "verbosity": "medium"}
    if asked.text and asked.text.format:
        text["format"] = asked.text.format
    effort = asked.reasoning.effort if asked.reasoning else None
    summary = asked.summary if shown is Shown.SUMMARY else None
    return {
        "id": response_id(exchange.request_id),
        "object": "response",
        "created_at": int(exchange.started_at.timestamp()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "model": exchange.model,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "frequency_penalty": _or(asked.frequency_penalty, 0.0),
        "presence_penalty": _or(asked.presence_penalty, 0.0),
        "previous_response_id": asked.previous_response_id,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {"effort": effort, "summary": summary},
        "safety_identifier": asked.safety_identifier,
        "service_tier": "default",
        "store": asked.stored,
        "temperature": _or(asked.temperature, 1.0),
        "text": text,
        "tool_choice": asked.tool_choice or "auto",
        "tools": [_tool(tool) for tool in asked.tools or ()],
        "top_logprobs": 0,
        "top_p": _or(asked.top_p, 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": asked.user,
    }


def finish(response: Response, output: Output, usage: Usage) -> None:
    """Note how the response ended: completed or incomplete."""
    response["status"] = output.status
    response["output"] = output.items
    if output.incomplete:
        response["incomplete_details"] = {"reason": output.incomplete}
    else:
        response["completed_at"] = int(time.time())
    response["usage"] = {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def fail(response: Response, output: Output, error: ApiError) -> None:
    """Note that the response failed; such a response is not kept."""
    code = "server_error" if error.status >= 500 else "invalid_prompt"
    response["status"], response["store"] = "failed", False
    response["output"] = [item for item in output.items if item["status"] != "in_progress"]
    response["error"] = {"code": code, "message": error.message}


def without_thinking(response: Response) -> Response:
    """The response as a key gets it that may not see the thinking."""
    output = [item for item in response["output"] if item["type"] != "reasoning"]
    return {**response, "output": output}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _tool(tool: Any) -> dict[str, Any]:
    return {"description": None, "parameters": None, "strict": False, **tool}
