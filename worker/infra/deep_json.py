"""Find and replace deeply nested parts of JSON text without recursion."""

from __future__ import annotations

import re
from typing import Final

MAX_TOKENS: Final = 1_000_000
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


class TooMuchNesting(ValueError):
    """The text has more than MAX_TOKENS brackets and strings."""


def parts_at(body: bytes, depth: int) -> list[tuple[int, int]]:
    """(begin, end) of every array and object at nesting level `depth`; the outermost is 1.

    Raises TooMuchNesting.
    """
    parts: list[tuple[int, int]] = []
    level = begin = 0
    for count, token in enumerate(_TOKEN.finditer(body)):
        if count > MAX_TOKENS:
            raise TooMuchNesting
        mark = body[token.start()]
        if mark in b"[{":
            level += 1
            begin = token.start() if level == depth else begin
        elif mark in b"]}":
            if level == depth:
                parts.append((begin, token.end()))
            level -= 1
    return parts


def flattened(body: bytes, depth: int) -> bytes:
    """The JSON with null in place of arrays and objects at level `depth`. Raises TooMuchNesting."""
    return replaced(body, [(part, b"null") for part in parts_at(body, depth)])


def replaced(body: bytes, changes: list[tuple[tuple[int, int], bytes]]) -> bytes:
    """Replace parts of the text: ((begin, end), new bytes) each, in ascending order."""
    pieces: list[bytes] = []
    at = 0
    for (begin, end), text in changes:
        pieces += (body[at:begin], text)
        at = end
    return b"".join([*pieces, body[at:]])
