"""Request fields that no endpoint honours, each with the reason a client is told.

They would silence the thinking, show the prompt, or be aimed at the decision. Values that ask for
nothing are accepted, since clients send them as defaults. What stands neither here nor in an endpoint's
request is refused as well, without a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SILENCES = "would switch the thinking off, and every answer here is deliberated"
REVEALS = "would show the prompt, which holds the policy"
AIMED = "could be aimed at the decision or the citations"
FORCES = "would force the model on where it wants to end, in the thinking or in a refusal"
REPLACES = "would put text into the prompt that is not searched and not set apart from the policy"
GRAMMAR = "would form the thinking as well; use response_format, which forms the answer alone"
PLUMBING = "belongs between an engine and its operator"
PROMPT_CACHES = "prompt caches are the engine's own"
TOLD_ON_CHAT = "token probabilities are told on /v1/chat/completions only"

REFUSED: Mapping[str, str] = {
    "add_generation_prompt": SILENCES,
    "add_special_tokens": REPLACES,
    "allowed_token_ids": AIMED,
    "bad_words": AIMED,
    "chat_template": "would replace the prompt's form, which sets the policy apart from other text",
    "continue_final_message": SILENCES,
    "documents": REPLACES,
    "echo": REVEALS,
    "ec_transfer_params": PLUMBING,
    "enable_thinking": SILENCES,
    "guided_choice": GRAMMAR,
    "guided_grammar": GRAMMAR,
    "guided_json": GRAMMAR,
    "guided_regex": GRAMMAR,
    "ignore_eos": FORCES,
    "include_stop_str_in_output": "stop sequences never reach the engine, and are not part of the answer",
    "kv_transfer_params": PLUMBING,
    "length_penalty": "ranks beams, and answers are not drawn by beam search",
    "logit_bias": AIMED,
    "logits_processors": AIMED,
    "logprob_token_ids": REVEALS,
    "logprobs": TOLD_ON_CHAT,
    "lora_request": PLUMBING,
    "media_io_kwargs": PLUMBING,
    "min_tokens": FORCES,
    "mm_payload": PLUMBING,
    "mm_processor_kwargs": PLUMBING,
    "prompt_embeds": REPLACES,
    "prompt_logprobs": REVEALS,
    "repetition_detection": "would end the thinking where it repeats itself",
    "request_id": "the guard names its requests itself; see x-guard-request-id",
    "return_hidden_states": REVEALS,
    "return_mm_kwargs": REVEALS,
    "return_prompt_text": REVEALS,
    "return_token_ids": REVEALS,
    "return_token_offsets": REVEALS,
    "return_tokens_as_token_ids": REVEALS,
    "routed_experts": REVEALS,
    "routed_experts_prompt_start": REVEALS,
    "session_id": "chooses the engine behind a router; the guard has one engine",
    "skip_special_tokens": "would show the tags that set thinking and answer apart",
    "spaces_between_special_tokens": "would show the tags that set thinking and answer apart",
    "stop_token_ids": AIMED,
    "stream_interval": "is the operator's to set; the guard relays what comes when it comes",
    "structured_outputs": GRAMMAR,
    "thinking_budget": SILENCES,
    "thinking_token_budget": SILENCES,
    "top_logprobs": TOLD_ON_CHAT,
    "truncate_prompt_tokens": "would cut the policy off",
    "truncation_side": "would cut the policy off",
    "use_beam_search": "the thinking must be drawn once, as a model thinks",
    "vllm_xargs": PLUMBING,
    "watermarking": PLUMBING,
}
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (None, True),
    "add_special_tokens": (None, False),
    "allowed_token_ids": (None, []),
    "bad_words": (None, []),
    "continue_final_message": (None, False),
    "echo": (None, False),
    "enable_thinking": (None, True),
    "ignore_eos": (None, False),
    "include_stop_str_in_output": (None, False),
    "length_penalty": (None, 1.0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "min_tokens": (None, 0),
    "return_token_ids": (None, False),
    "return_prompt_text": (None, False),
    "return_tokens_as_token_ids": (None, False),
    "skip_special_tokens": (None, True),
    "spaces_between_special_tokens": (None, True),
    "stop_token_ids": (None, []),
    "top_logprobs": (None, 0),
    "use_beam_search": (None, False),
}
"""Values that ask for nothing; for a field that is not here, only null."""


def without_refused(
    value: Any, refused: Mapping[str, str] = REFUSED, harmless: Mapping[str, tuple[Any, ...]] = HARMLESS
) -> Any:
    """A request without the refused fields that ask for nothing.

    Args:
        value: The decoded body, not yet checked.
        refused: Reasons by field.
        harmless: Accepted values by field.

    Raises:
        ValueError: One asks for something; the text is the field and the reason.
    """
    if not isinstance(value, dict) or not (present := value.keys() & refused.keys()):
        return value
    for field in sorted(present):
        if value[field] not in harmless.get(field, (None,)):
            raise ValueError(f"{field}: {refused[field]}")
    return {field: item for field, item in value.items() if field not in refused}
