"""Every field that the APIs have is decided about: honoured, or refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from pydantic import BaseModel

from guard.api import chat_request, completions_request, messages_request, responses_request

VLLM = """
    add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt chat_template
    chat_template_kwargs continue_final_message documents echo ec_transfer_params ignore_eos
    include_reasoning include_stop_str_in_output kv_transfer_params length_penalty logprob_token_ids
    media_io_kwargs min_p min_tokens mm_payload mm_processor_kwargs priority prompt_logprobs
    repetition_detection repetition_penalty request_id return_mm_kwargs return_prompt_text
    return_token_ids return_token_offsets return_tokens_as_token_ids routed_experts_prompt_start
    session_id skip_special_tokens spaces_between_special_tokens stop_token_ids stream_interval
    structured_outputs thinking_token_budget top_k truncate_prompt_tokens truncation_side
    use_beam_search vllm_xargs watermarking
""".split()
"""What vLLM 0.32 takes on chat completions beside OpenAI's fields."""


@pytest.mark.parametrize(
    ("params", "request_model", "refused"),
    [
        (ChatParams, chat_request.ChatRequest, chat_request.REFUSED_HERE),
        (CompletionCreateParamsBase, completions_request.CompletionRequest, completions_request.REFUSED_HERE),
        (ResponseCreateParamsBase, responses_request.ResponsesRequest, responses_request.REFUSED_HERE),
        (MessageCreateParamsBase, messages_request.MessagesRequest, messages_request.REFUSED_HERE),
    ],
    ids=["chat", "completions", "responses", "messages"],
)
def test_every_field_of_the_official_sdk_is_decided_about(
    params: Any, request_model: type[BaseModel], refused: dict[str, str]
) -> None:
    """A field that the API has gets its own answer, not that of a typing mistake.

    Field lesson 31: fields were dropped with a 200, or failed without a name.
    """
    known = {*request_model.model_fields, *refused}

    assert sorted(params.__annotations__.keys() - known) == []


def test_every_field_of_vllm_is_decided_about() -> None:
    """The engine takes many fields that no caller may set; none is merely unknown here."""
    known = {*chat_request.ChatRequest.model_fields, *chat_request.REFUSED_HERE}

    assert sorted(set(VLLM) - known) == []


@pytest.mark.parametrize(
    ("request_model", "refused"),
    [
        (chat_request.ChatRequest, chat_request.REFUSED_HERE),
        (completions_request.CompletionRequest, completions_request.REFUSED_HERE),
        (responses_request.ResponsesRequest, responses_request.REFUSED_HERE),
        (messages_request.MessagesRequest, messages_request.REFUSED_HERE),
    ],
    ids=["chat", "completions", "responses", "messages"],
)
def test_no_field_is_both(request_model: type[BaseModel], refused: dict[str, str]) -> None:
    """What is honoured is not refused before it is looked at."""
    assert request_model.model_fields.keys() & refused == set()
