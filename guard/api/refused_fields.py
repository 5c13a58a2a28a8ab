"""Request fields that no endpoint honours, each with the reason a client is told.

They would silence the thinking, show the prompt, or be aimed at the decision. Values that ask for
nothing are accepted, since clients send them as defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SILENCES = "would switch the thinking off, and every answer here is deliberated"
REVEALS = "would show the prompt, which holds the policy"
REFUSED: Mapping[str, str] = {
    "chat_template_kwargs": SILENCES,
    "chat_template": "would replace the prompt's form, which sets the policy apart from other text",
    "continue_final_message": SILENCES,
    "add_generation_prompt": SILENCES,
    "thinking_token_budget": SILENCES,
    "echo": REVEALS,
    "prompt_logprobs": REVEALS,
    "return_token_ids": REVEALS,
    "return_prompt_text": REVEALS,
    "return_tokens_as_token_ids": REVEALS,
    "logprobs": "token probabilities are not offered, since the thinking is hidden",
    "top_logprobs": "token probabilities are not offered, since the thinking is hidden",
    "logit_bias": "could be aimed at the decision or the citations",
}
HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "echo": (None, False),
    "continue_final_message": (None, False),
    "add_generation_prompt": (None, True),
    "return_token_ids": (None, False),
    "return_prompt_text": (None, False),
    "return_tokens_as_token_ids": (None, False),
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
