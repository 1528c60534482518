"""Safe text for a terminal: control characters in foreign text are escaped.

Names of banks, codes and event names come from Pluggy and from anyone that can deliver to the
receiver. An escape sequence in one of them could rewrite what an operator reads.
"""

from __future__ import annotations

import re
from typing import Final

CONTROLS: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
"""C0, DEL and C1; separators of lines; marks that reverse or hide what is written beside them."""


def neutral(text: str) -> str:
    """The text on one line, with every control character as its escape, such as \\x1b."""
    return CONTROLS.sub(_escape, text)


def neutral_json(document: str) -> str:
    """A JSON document that means the same and holds no control character beside blanks."""
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def counted(number: int, one: str, many: str) -> str:
    """The number with the words for one or for many, such as 1 item and 1,000 items."""
    return f"{number:,} {one if number == 1 else many}"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
