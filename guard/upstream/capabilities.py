"""What each kind of engine does with a request, as observed on the running servers.

Every line here is checked by ``tests/contract/test_engines.py`` against the real engine; the versions
are those it was last run with. An engine that ignores a field says nothing about it, so the guard has
to know: it makes up for what is missing or refuses the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EngineKind = Literal["transformers", "vllm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The differences between engines that matter to the guard."""

    ignores_n: bool
    """Answers one choice whatever ``n`` says."""
    ignores_stop: bool
    """Generates past ``stop`` sequences."""
    lacks: frozenset[str]
    """Fields that change nothing, or fail with 422; sampling is then decided for all requests by the
    checkpoint's ``generation_config.json``."""
    ignores_stream_options: bool
    """Usage comes unasked, in the chunk with the finish reason."""
    sends_done: bool
    """Ends a stream with ``[DONE]``."""
    reports_usage: bool
    """Usage is in the stream when ``stream_options.include_usage`` asks for it."""
    needs_model_field: bool
    """A request without ``model`` fails."""
    checks_model_field: bool
    """A ``model`` other than the served one fails."""
    structured_outputs: bool
    """``response_format`` constrains the answer."""
    continue_final_message: bool
    """An assistant message at the end can be continued."""
    enforces_context: bool
    """A prompt longer than the model's context is refused; otherwise it is answered with noise."""
    dies_of_long_requests: bool
    """One request that needs more cache than there is ends the engine for everybody."""


CAPABILITIES: dict[EngineKind, Capabilities] = {
    # transformers 5.24, serve --continuous-batching
    "transformers": Capabilities(
        ignores_n=True,
        ignores_stop=True,
        lacks=frozenset(
            {
                "temperature",
                "top_p",
                "seed",
                "presence_penalty",
                "frequency_penalty",
                "top_k",
                "min_p",
                "repetition_penalty",
                "reasoning_effort",
                "parallel_tool_calls",
                "logprobs",
                "top_logprobs",
                "cache_salt",
                "priority",
            }
        ),
        ignores_stream_options=True,
        sends_done=False,
        reports_usage=True,
        needs_model_field=False,
        checks_model_field=True,
        structured_outputs=False,
        continue_final_message=False,
        enforces_context=False,
        dies_of_long_requests=True,
    ),
    # vLLM 0.32
    "vllm": Capabilities(
        ignores_n=False,
        ignores_stop=False,
        lacks=frozenset(),
        ignores_stream_options=False,
        sends_done=True,
        reports_usage=True,
        needs_model_field=False,
        checks_model_field=True,
        structured_outputs=True,
        continue_final_message=True,
        enforces_context=True,
        dies_of_long_requests=False,
    ),
}
