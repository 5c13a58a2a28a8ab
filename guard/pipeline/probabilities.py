"""Token probabilities, told of exactly the text that is released.

An engine sends them for every token: of the thinking, of the tags after it, and with texts that come
later than their tokens do. What is told must join to the visible text byte for byte; where that does
not come out, nothing is told.
"""

from __future__ import annotations

from typing import Any

Token = dict[str, Any]
"""One entry of ``logprobs.content``: token, logprob, bytes, top_logprobs."""


class TokenAligner:
    """Finds the tokens of one call's visible answer."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._tokens: list[tuple[bytes, Token]] = []
        """Of the answer, and not told yet."""
        self._begun = b""
        """Released text whose token has not ended yet."""
        self._found = False
        """The first token of the answer was found."""
        self._lost = False

    def add(self, entries: list[Any], text: str) -> None:
        """Take what the engine says of its next tokens.

        Args:
            entries: Of the first piece of the answer, and of what came between the thinking and it; then of
                each further piece.
            text: The piece.
        """
        for entry in entries:
            token = _token(entry)
            if token is None:
                self._lost = True
                return
            self._tokens.append((_bytes(token), token))
        if not self._found:
            self._find(_encoded(text))

    def take(self, text: str) -> list[Token] | None:
        """The tokens that end in this text, which follows what was taken before.

        Args:
            text: What is released now.

        Returns:
            None where they cannot be told, from then on.
        """
        wanted, count = self._begun + _encoded(text), 0
        while count < len(self._tokens) and wanted.startswith(self._tokens[count][0]) and wanted:
            wanted = wanted[len(self._tokens[count][0]) :]
            count += 1
        if wanted and not (count < len(self._tokens) and self._tokens[count][0].startswith(wanted)):
            self._lost = True
        if self._lost:
            return None
        told, self._tokens = self._tokens[:count], self._tokens[count:]
        self._begun = wanted
        return [token for _, token in told]

    def _find(self, text: bytes) -> None:
        """Forget the tokens of tags and white space before the answer, which begins with this text.

        The last tokens so far are its own, but for the beginning of what may become a tag.
        """
        for start in reversed(range(len(self._tokens))):
            rest = b"".join(part for part, _ in self._tokens[start:])
            if rest.startswith(text) and rest[len(text) :][:1] in (b"", b"<"):
                while start and not self._tokens[start - 1][0]:
                    start -= 1
                del self._tokens[:start]
                self._found = True
                return
        self._lost = True


def _token(entry: Any) -> Token | None:
    """An entry with what OpenAI's API has and nothing else; None where it is no such entry."""
    told = _told(entry)
    if told is None:
        return None
    others = entry.get("top_logprobs") or []
    if not isinstance(others, list):
        return None
    alternatives = [_told(other) for other in others]
    return None if None in alternatives else {**told, "top_logprobs": alternatives}


def _told(entry: Any) -> Token | None:
    if not isinstance(entry, dict):
        return None
    token, logprob, parts = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not (isinstance(token, str) and isinstance(logprob, int | float)):
        return None
    if parts is not None and not (isinstance(parts, list) and all(_is_byte(part) for part in parts)):
        return None
    return {"token": token, "logprob": logprob, "bytes": parts}


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 256


def _bytes(token: Token) -> bytes:
    if token["bytes"] is not None:
        return bytes(token["bytes"])
    return _encoded(token["token"])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
