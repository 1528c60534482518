"""The table of operations in docs/, so that the SDK tests and the page cannot drift apart."""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "simulator-operations.md"
_ROW = re.compile(r"^\| (\w+) \| ([A-Z]+ /\S+) \| (covered|left out)(.*) \|$", re.MULTILINE)


class Operation(NamedTuple):
    """One row of the table."""

    name: str
    request: str
    covered: bool
    remark: str


def operations() -> list[Operation]:
    rows = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    return [
        Operation(name, request, state == "covered", remark)
        for name, request, state, remark in rows
    ]


def covered_by(sdk: str) -> set[str]:
    """The requests that this SDK's test has to make."""
    return {row.request for row in operations() if row.covered and sdk in row.remark}
