"""Output of commands on terminals of any width, pipes and a full disk; input lists of any form."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import unicodedata
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

import ops
from ops.cli.console import CommandFailed, print_fields, print_json, print_rows, run, say
from ops.cli.item_ids import read_ids
from ops.cli.tables import show_rows
from ops.cli.terminal_text import CONTROLS, neutral

ROWS = [
    {"product": "investment_transactions", "account_id": uuid.UUID(int=7), "reason": None}
    | {f"at_{n}": datetime(2026, 1, 1, tzinfo=UTC) for n in range(8)}
]

BIDIRECTIONAL = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")


def shown(*, width: int, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    show_rows(console, "freshness", ROWS)
    return file.getvalue()


def test_a_pipe_gets_one_line_a_row_however_wide() -> None:
    [line] = [line for line in shown(width=200, terminal=False).splitlines() if "2026" in line]
    assert "investment_transactions" in line
    assert str(uuid.UUID(int=7)) in line


def test_a_pipe_gets_tabs_and_values_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"at": datetime(2026, 1, 1, tzinfo=UTC), "none": None, "all": ["a", "b"], "is": True}
    print_rows("things", [row | {"money": Decimal("1234.50"), "text": "a\tb"}])
    print_rows("others", [])
    print_fields({"item_id": 7})
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "at\tnone\tall\tis\tmoney\ttext",
        "2026-01-01T00:00:00Z\t\ta,b\ttrue\t1234.50\ta\\x09b",
        "item_id\t7",
    ]
    assert said.err == "others: none\n"


def test_a_terminal_that_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    file = io.StringIO()
    console = Console(file=file, width=300, force_terminal=True)
    show_rows(console, "freshness", ROWS)
    assert "\x1b[3" not in file.getvalue().replace("\x1b[3m", "")  # italics are no colour


def test_a_reader_that_has_gone_is_no_error_message() -> None:
    """As in `pluggy-sync --help | head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "ops", "--help"],
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_terminal_that_is_wide_enough_gets_a_table() -> None:
    assert "┃" in shown(width=400, terminal=True)


def test_a_narrow_terminal_gets_whole_values_one_below_the_other() -> None:
    lines = [line.strip() for line in shown(width=80, terminal=True).splitlines()]
    assert lines[:3] == [
        "freshness: 1",
        "product     investment_transactions",
        f"account id  {uuid.UUID(int=7)}",
    ]
    assert not any("reason" in line for line in lines)


def test_a_terminal_of_20_columns_gets_whole_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_rows("freshness", ROWS)
    print_fields(ROWS[0])
    assert capsys.readouterr().out.count(str(uuid.UUID(int=7))) == 2


NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m[red]Itaú[/red]\r\n\u202eevil\x00"


def test_control_sequences_of_others_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("names", [{"name": NASTY}])
    print_fields({"name": NASTY})
    say(NASTY)
    CommandFailed(NASTY).show()
    print_json({"name": NASTY})
    printed, failed = capsys.readouterr()
    for line in (printed + failed).split("\n"):
        assert not CONTROLS.search(line.replace("\t", "")), repr(line)
    assert printed.count("\\x1b]0;owned\\x07") == 3
    # Nor is anything in brackets taken for a colour.
    assert printed.count("[red]Itaú[/red]") == 4
    assert json.loads(printed.splitlines()[-1]) == {"name": NASTY}


def test_every_character_that_a_terminal_obeys_is_written_out() -> None:
    obeyed = [c for c in map(chr, range(0x10000)) if unicodedata.category(c) in ("Cc", "Zl", "Zp")]
    obeyed += [c for c in map(chr, range(0x10000)) if unicodedata.bidirectional(c) in BIDIRECTIONAL]
    assert not [c for c in obeyed if neutral(c) == c]
    assert neutral("Itaú, cartão 4% [ok] 日本") == "Itaú, cartão 4% [ok] 日本"


def test_a_list_with_a_quote_that_is_never_closed_has_bad_lines_and_no_more() -> None:
    item_id = uuid.uuid4()
    lines = list(read_ids(["itemId\n", f"{item_id}\n", '"' + "x" * 200_000 + "\n"]))
    assert [line.item_id for line in lines] == [item_id, None]
    [long] = read_ids(["x" * 200_000])
    assert long.item_id is None


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="only Linux has a full disk to write on"
)
def test_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ops", "--help"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "pluggy-sync: input or output fails: No space left on device\n"


@pytest.mark.parametrize(
    ("closed", "arguments", "status"),
    [("<&-", "items import -", 1), (">&-", "--help", 0), (">&- 2>&-", "items list", 1)],
)
def test_a_stream_that_is_closed_is_no_traceback(closed: str, arguments: str, status: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m ops {arguments} {closed}', sys.executable],
        env={"DATABASE_URL": ""},
        cwd=Path(ops.__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert done.stderr in ("", "pluggy-sync: DATABASE_URL is not set\n")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_an_output_that_fails_beside_statements_is_not_taken_for_postgres(number: int) -> None:
    async def prints() -> None:
        raise OSError(number, "of the output")

    with pytest.raises(OSError, match="of the output"):
        run(prints())


@pytest.mark.parametrize("header", ["ITEMID", "Item_Id", "itemid;name", '"itemId"'])
def test_the_column_of_a_list_is_found_without_case(header: str) -> None:
    item_id = uuid.uuid4()
    assert [line.item_id for line in read_ids([f"{header}\n", f"{item_id}\n"])] == [item_id]
