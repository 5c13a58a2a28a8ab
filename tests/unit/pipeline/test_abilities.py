from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from guard.errors import InvalidRequest
from guard.pipeline.abilities import DISPENSABLE, EXTRAS, check_able, not_applied
from guard.pipeline.exchange import Constrained, EngineProfile, Exchange
from guard.upstream.capabilities import CAPABILITIES

TRANSFORMERS = EngineProfile("m", lacks=CAPABILITIES["transformers"].lacks)


def exchange(**fields: Any) -> Exchange:
    """A request with these fields."""
    return Exchange(
        "gr-1", "chat.completions", "app", "m", False, [], datetime.now(UTC), time.perf_counter(), **fields
    )


def test_an_engine_that_lacks_nothing_is_asked_everything() -> None:
    """No field is left out, none refused."""
    asked = exchange(sampling=dict.fromkeys(EXTRAS | DISPENSABLE, 1), seed=1)

    check_able(asked, EngineProfile("m"))

    assert not_applied(asked, EngineProfile("m")) == ()


def test_sampling_that_an_engine_lacks_is_left_out_and_named() -> None:
    """An answer drawn otherwise is still an answer."""
    asked = exchange(sampling={"temperature": 0.5, "top_k": 3, "user": "u"}, seed=1)

    check_able(asked, TRANSFORMERS)

    assert not_applied(asked, TRANSFORMERS) == ("seed", "temperature", "top_k")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"sampling": {"cache_salt": "x"}}, "cache_salt"),
        ({"sampling": {"priority": 1}}, "priority"),
        ({"probabilities": {"logprobs": True, "top_logprobs": 0}}, "logprobs"),
    ],
)
def test_what_an_answer_cannot_do_without_is_refused(fields: dict[str, Any], name: str) -> None:
    """A promise that the engine does not keep is not made for it."""
    with pytest.raises(InvalidRequest, match=name) as raised:
        check_able(exchange(**fields), TRANSFORMERS)

    assert (raised.value.param, raised.value.code) == (name, "unsupported_parameter")


def test_a_form_that_no_grammar_enforces_is_refused() -> None:
    """An answer that only looks as if it had the form is none."""
    profile = EngineProfile("m", constrained=Constrained.UNSUPPORTED)

    with pytest.raises(InvalidRequest, match="response_format"):
        check_able(exchange(constraint={"response_format": {"type": "json_object"}}), profile)
