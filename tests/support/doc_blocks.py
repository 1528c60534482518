"""Blocks of code in the documentation, each with the mark that stands on the line above it.

A mark is a comment of Markdown: `<!-- run by `tests/x.py` -->` or `<!-- not run: needs ... -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
ELSEWHERE, NOT_RUN = "run by ", "not run: "
PICTURES: Final = ("", "mermaid")
"""Languages of blocks that show something and are no code."""
BLOCK: Final = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block; line: of its first line in the page."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_not_run(self) -> bool:
        return self.mark.startswith(NOT_RUN)


def blocks() -> Iterator[Block]:
    """All blocks, page by page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            line = text.count("\n", 0, found.start("text")) + 1
            name = str(page.relative_to(ROOT))
            yield Block(name, line, found["language"], body, found["mark"] or "")
