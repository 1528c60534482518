"""Tables for a terminal; in a module of their own, because a pipe needs nothing of `rich`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ops.cli.terminal_text import neutral

PIPE_WIDTH: Final = 200
"""Where there is no terminal; tables are as wide as they need, so that grep finds whole ids."""
NARROWEST: Final = 64
"""A name and an id. A narrower terminal breaks the lines itself, and nothing is lost."""
WIDEST: Final = 10_000


def show_rows(shown: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """As a table; a terminal that is too narrow for it gets one block for each row, without what is
    empty, because ids that are cut in pieces can be neither read nor copied."""
    table = Table(title=title, title_justify="left")
    for name, value in rows[0].items():
        justify: JustifyMethod = "right" if isinstance(value, Decimal) else "left"
        table.add_column(name.replace("_", " "), overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    wide = Measurement.get(shown, shown.options.update(width=WIDEST), table).maximum
    if wide > shown.width and shown.is_terminal:
        shown.print(f"{title}: {len(rows)}", style="italic")
        for row in rows:
            shown.print(fields_table({name: v for name, v in row.items() if v is not None}))
            shown.print()
        return
    shown.width = max(shown.width, wide)
    shown.print(table)


def fields_table(fields: Mapping[str, Any]) -> Table:
    """Names and values, one a line."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name.replace("_", " "), _cell(value))
    return table


def console(*, to_stderr: bool = False) -> Console:
    """Where to print; as wide as the terminal, if there is one."""
    is_terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
    width = None if is_terminal else PIPE_WIDTH
    made = Console(stderr=to_stderr, width=width, highlight=False)
    if made.width < NARROWEST:
        made.width = NARROWEST
    return made


def _cell(value: Any) -> Text:
    """No markup either: a name in brackets is a name."""
    return Text(neutral(_shown(value)))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, Decimal) else str(value)
