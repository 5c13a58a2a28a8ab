from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from guard.errors import ConfigError, InvalidRequest
from guard.upstream.context import LEAST_ANSWER, PER_MESSAGE, ContextLimit


@pytest.fixture(name="limit")
def _limit(tmp_path: Path) -> ContextLimit:
    """A checkpoint whose tokenizer counts words, with a context of 100 tokens."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_bytes(orjson.dumps({"max_position_embeddings": 100}))
    return ContextLimit.of_checkpoint(tmp_path)


def _ask(words: int, **fields: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "word " * words}], **fields}


def test_an_answer_is_limited_to_what_the_context_leaves(limit: ContextLimit) -> None:
    """max_tokens is lowered to the room beside the prompt."""
    assert limit.fit(_ask(10, max_tokens=500))["max_tokens"] == 100 - 10 - 2 * PER_MESSAGE


def test_a_smaller_limit_stays(limit: ContextLimit) -> None:
    """A limit that fits is left alone."""
    assert limit.fit(_ask(10, max_tokens=5))["max_tokens"] == 5


def test_a_request_without_limit_gets_one(limit: ContextLimit) -> None:
    """An engine that would run past its context is told where to end."""
    assert limit.fit(_ask(10))["max_tokens"] == 100 - 10 - 2 * PER_MESSAGE


@pytest.mark.parametrize("words", [100 - 2 * PER_MESSAGE - LEAST_ANSWER + 1, 100_000])
def test_a_prompt_without_room_for_an_answer_is_refused(limit: ContextLimit, words: int) -> None:
    """The client is told which field is too long, whether it was counted or is beyond counting."""
    with pytest.raises(InvalidRequest) as refused:
        limit.fit(_ask(words))

    assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")


def test_parts_and_tool_calls_count(limit: ContextLimit) -> None:
    """Text parts and tool-call arguments take room as well."""
    call = {"function": {"name": "f", "arguments": "word " * 30}}
    parts = [{"type": "text", "text": "word " * 20}, {"type": "image_url", "image_url": {"url": "x"}}]
    body = {"messages": [{"role": "user", "content": parts, "tool_calls": [call]}]}

    assert limit.fit(body)["max_tokens"] < 100 - 50


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    """A model folder that cannot be used stops the start with its name."""
    with pytest.raises(ConfigError, match="is no checkpoint folder"):
        ContextLimit.of_checkpoint(tmp_path)
