"""Ids of responses and of their items.

A response has the id of its request's records, so that an auditor finds one by the other. An item's id holds
its response's, so that a reference to the item leads to where it is stored.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r"(?:msg|rs|fc|fco)_([0-9a-f]{26})[0-9a-f]{4,8}")


def response_id(request_id: str) -> str:
    """The id of the response to a request.

    >>> response_id("gr-0193a6b1c2d3e4f5a6b7c8d9e0")
    'resp_0193a6b1c2d3e4f5a6b7c8d9e0'
    """
    return f"resp_{request_id.removeprefix('gr-')}"


def item_id(prefix: str, response: str, number: int) -> str:
    """The id of an item of a response.

    Args:
        prefix: Its kind: ``msg``, ``rs``, ``fc`` or ``fco``.
        response: The response's id.
        number: Among its input and output items, counted through.

    >>> item_id("msg", "resp_0193a6b1c2d3e4f5a6b7c8d9e0", 3)
    'msg_0193a6b1c2d3e4f5a6b7c8d9e00003'
    """
    return f"{prefix}_{response.removeprefix('resp_')}{number:04x}"


def response_of_item(item: str) -> str | None:
    """The id of the response that an item belongs to; None where it is no item id of ours.

    >>> response_of_item("msg_0193a6b1c2d3e4f5a6b7c8d9e00003")
    'resp_0193a6b1c2d3e4f5a6b7c8d9e0'
    """
    found = _ITEM.fullmatch(item)
    return f"resp_{found[1]}" if found else None
