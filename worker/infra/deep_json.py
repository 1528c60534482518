"""Find and replace deeply nested parts of JSON text without recursion."""

from __future__ import annotations

import re
from typing import Final

MAX_TOKENS: Final = 1_000_000
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


class TooMuchNesting(ValueError):
    """More brackets than there is time to look at."""


def parts_at(body: bytes, depth: int) -> list[tuple[int, int]]:
    """Begin and end of every array and object that lies `depth` levels down; the outermost is 1.

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
    """The same JSON with null in place of what lies `depth` levels down. Raises TooMuchNesting."""
    return replaced(body, [(part, b"null") for part in parts_at(body, depth)])


def replaced(body: bytes, changes: list[tuple[tuple[int, int], bytes]]) -> bytes:
    """The text with other bytes in place of parts that follow each other."""
    pieces: list[bytes] = []
    at = 0
    for (begin, end), text in changes:
        pieces += (body[at:begin], text)
        at = end
    return b"".join([*pieces, body[at:]])
