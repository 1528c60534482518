"""The error of every command: one line on standard error and an exit status."""

from __future__ import annotations

from typing import IO, Any

import click

from ops.cli.terminal_text import neutral


class CommandFailed(click.ClickException):
    """Ends a command with one line on standard error and exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"pluggy-sync: {neutral(self.format_message())}", err=True, file=file)
