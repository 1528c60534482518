"""`python -m tests.support.command_page`: write docs/commands.md from the help of the commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ops.cli.main import main

PAGE: Final = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD: Final = "\n".join(
    [
        "# Commands",
        "",
        "Written by `python -m tests.support.command_page` from the help of the commands.",
        "",
        "On a terminal tables are aligned; in a pipe the first line names the columns, and values"
        " are separated by tabs, with times as RFC 3339. `--json` prints one document. A mistake"
        " is one message on standard error and an exit status other than 0: 2 for wrong arguments,"
        " else 1, where a command names no others. Ctrl-C ends a command at once, with 130."
        " Settings come from the environment ([settings.md](settings.md)).",
        "",
    ]
)


def commands(group: click.Group, path: str = "pluggy-sync") -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, by its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(name: str, command: click.Command) -> str:
    """Heading, usage, the whole help, and the options but those that all have."""
    context = click.Context(command, info_name=name, show_default=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {name}", "", f"`{name} {usage}`", "", _paragraphs(command), ""]
    shown = [p.get_help_record(context) for p in command.params if p.name != "as_json"]
    if records := [record for record in shown if record is not None]:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records]
        lines.append("")
    return "\n".join(lines)


def _paragraphs(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or "")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page() -> str:
    """The text of the page."""
    return "\n".join([HEAD, *(section(name, command) for name, command in commands(main))])


if __name__ == "__main__":
    PAGE.write_text(page().rstrip() + "\n", encoding="utf-8")
