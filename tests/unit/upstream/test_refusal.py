from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from guard.errors import InvalidRequest, Overloaded, UpstreamError
from guard.upstream.refusal import read_words, refusal

TOO_LONG = "This model's maximum context length is 8192 tokens."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"error": {"message": "no such model", "code": 404}}', "no such model"),
        (b'{"object": "error", "message": "bad", "code": 40001}', "bad"),
        (b'{"detail": "Server is busy"}', "Server is busy"),
        (b'{"detail": [{"loc": ["body", "n"], "msg": "too many"}]}', "too many"),
        (b'{"message": "limit"}', "limit"),
        (b"upstream connect error", "upstream connect error"),
        (b"", ""),
        (b"\xff", "�"),
        (b'{"a": 1}', '{"a":1}'),
        (b"[]", "[]"),
        (b"{}", "{}"),
    ],
)
def test_the_message_is_found_in_every_known_shape(body: bytes, message: str) -> None:
    """String, object, FastAPI and plain-text errors all give their message."""
    assert read_words(body).message == message


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_clients_mistake_keeps_the_engines_words(status: int) -> None:
    """A request that the engine calls invalid comes back as such, with message and param."""
    error = {"message": TOO_LONG, "param": "messages", "code": 400, "type": "BadRequestError"}

    refused = refusal(status, orjson.dumps({"error": error}))

    assert isinstance(refused, InvalidRequest)
    assert (refused.message, refused.param, refused.code) == (TOO_LONG, "messages", None)


def test_an_engines_text_code_is_kept() -> None:
    """A machine-readable code such as OpenAI's reaches the client; a number does not."""
    body = {"error": {"message": TOO_LONG, "code": "context_length_exceeded"}}

    assert refusal(400, orjson.dumps(body)).code == "context_length_exceeded"


def test_paths_and_long_texts_are_not_shown() -> None:
    """File paths, line breaks and endless texts of an engine do not reach the client."""
    said = "cannot read /srv/models/secret/x.json,\n see https://example.org/a/b" + " x" * 500

    refused = refusal(400, orjson.dumps({"error": said}))

    assert refused.message.startswith("cannot read [path], see https://example.org/a/b x")
    assert len(refused.message) == 500
    assert "/srv/models/secret" in refused.__notes__[0]


@pytest.mark.parametrize(
    "said",
    [
        "1 validation error:\n  {'type': 'value_error', 'loc': ('body',), 'msg': 'no such choice', "
        "'input': {'messages': [{'role': 'system', 'content': '<policy>\\nsecret rules'}]}}",
        "1 validation error\n  no such choice [type=value_error, input_value={'messages': ['secret rules']}]",
        '[{"msg": "no such choice", "ctx": {"error": "secret rules"}, "input": "secret rules"}]',
    ],
)
def test_the_request_is_not_repeated(said: str) -> None:
    """Validation errors that quote what was validated would show the prompt with the policy in it."""
    message = refusal(400, orjson.dumps({"error": {"message": said}})).message

    assert "no such choice" in message
    assert "secret" not in message


def test_an_input_that_is_spoken_of_is_kept() -> None:
    """Only what a validation error adds is cut off."""
    said = "The input: 9000 tokens. Context: 4096."

    assert refusal(400, orjson.dumps({"error": said})).message == said


def test_a_refusal_without_words_says_so() -> None:
    """An empty error body still gives a sentence."""
    assert refusal(400, b"").message == "The engine refused the request as invalid."


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_the_operators_mistake_hides_the_engines_words(status: int) -> None:
    """A wrong key, address or model name is the operator's to mend, and the message says so."""
    refused = refusal(status, b'{"error": "The model `/srv/x` does not exist."}')

    assert type(refused) is UpstreamError
    assert refused.code == "engine_misconfigured"
    assert "operator" in refused.message
    assert "/srv/x" not in refused.message
    assert "/srv/x" in refused.__notes__[0]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("999999999", 86_400), (None, None), ("soon", None), ("-1", None)],
)
def test_a_full_engine_says_when_to_come_back(status: int, header: str | None, seconds: int | None) -> None:
    """Too many requests and unavailable mean overloaded, with the engine's own wait if readable."""
    refused = refusal(status, b"", header)

    assert isinstance(refused, Overloaded)
    assert refused.retry_after == seconds


@pytest.mark.parametrize(("ahead", "expected"), [(-60, {0}), (3600, {3599, 3600})])
def test_a_wait_until_a_date_becomes_seconds(ahead: int, expected: set[int]) -> None:
    """A Retry-After date is turned into whole seconds from now, never a negative number."""
    refused = refusal(503, b"", format_datetime(datetime.now(UTC) + timedelta(seconds=ahead)))

    assert isinstance(refused, Overloaded)
    assert refused.retry_after in expected


@pytest.mark.parametrize("status", [402, 405, 500, 502, 504])
def test_other_statuses_are_the_engines_failure(status: int) -> None:
    """What is neither the client's nor the operator's mistake is the engine's failure."""
    refused = refusal(status, b"Traceback (most recent call last)")

    assert type(refused) is UpstreamError
    assert refused.code == "engine_failed"
    assert "Traceback" not in refused.message
