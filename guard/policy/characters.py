"""Characters that no reader sees: kept out of policies, looked through in client text."""

from __future__ import annotations

import re

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
"""The inside of a character class: soft hyphen, zero-width, direction and variation marks, fillers, tags
(Unicode's default-ignorable characters)."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters other than tab and newline, line separators that editors disagree on, and halves of
surrogate pairs, which no UTF-8 text can hold."""


def normal_text(text: str) -> str:
    """A file's text without byte order mark, its lines ending in a newline alone."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
