"""Text from clients and models, safe to show in a terminal: what acts is made visible instead.

Escape sequences can repaint a terminal or type into it, and bidirectional marks, tag characters and line
separators can make a record read as something else. All of these become visible signs.
"""

from __future__ import annotations

import re

_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_DELETE = 0x7F


def safe(text: str) -> str:
    r"""The text with everything that acts on a terminal made visible; newline and tab stay.

    >>> safe("a\x1b[2Jb")
    'a␛[2Jb'
    """
    return _ACTS.sub(_visible, text.replace("\r\n", "\n"))


def safe_line(text: str) -> str:
    """The same on one line."""
    return " ".join(safe(text).split())


def safe_json(text: str) -> str:
    """JSON that means the same and has what acts on a terminal escaped."""
    return _ACTS.sub(_escaped, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == _DELETE:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
