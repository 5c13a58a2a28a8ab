"""What a legacy completion request may hold."""

from __future__ import annotations

from typing import Any

import pytest

from guard.api.body import validate
from guard.api.completions_request import MAX_TOKENS, CompletionRequest
from guard.errors import InvalidRequest


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2], [3]]}, "prompt"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"echo": True}, "echo"),
        ({"suffix": "the end."}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 5}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": []}, "tools"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """Token ids, echo, suffix, best_of and probabilities each have their reason."""
    with pytest.raises(InvalidRequest) as raised:
        validate(CompletionRequest, {"model": "default", "prompt": "Hello", **fields})

    assert (raised.value.param or "").startswith(param)
    assert param in raised.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"echo": False, "suffix": None, "logprobs": None, "logit_bias": {}, "best_of": 1},
        {"best_of": 2, "n": 2},
        {"stop": ["a"], "seed": 1, "user": "u", "stream": True, "stream_options": {"include_usage": True}},
    ],
)
def test_what_asks_for_nothing_more_is_accepted(fields: dict[str, Any]) -> None:
    """Defaults that clients send, and every honoured field, pass."""
    assert validate(CompletionRequest, {"model": "default", "prompt": "Hello", **fields}).prompts == ["Hello"]


def test_the_default_limit_is_openais() -> None:
    """A client that sets no limit gets what OpenAI's endpoint gives it; null sets none."""
    bare = validate(CompletionRequest, {"model": "default", "prompt": ["a", "b"]})
    null = validate(CompletionRequest, {"model": "default", "prompt": "a", "max_tokens": None})

    assert (bare.max_tokens, bare.prompts) == (MAX_TOKENS, ["a", "b"])
    assert null.max_tokens is None
