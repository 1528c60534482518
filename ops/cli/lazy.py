"""Groups of commands that import a command only when it runs: most of the start is imports."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """A command that is not imported yet. summary: the first sentence of its docstring."""

    module: str
    name: str
    summary: str


class LazyGroup(click.Group):
    """A group whose help needs none of its commands.

    lazy: commands by their name on the command line, shown in this order.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (found := self.lazy.get(cmd_name)) is None:
            return super().get_command(ctx, cmd_name)
        command = getattr(import_module(found.module), found.name)
        assert isinstance(command, click.Command)  # noqa: S101 - for mypy
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, each.summary) for name, each in self.lazy.items()]
        rows += [(name, each.get_short_help_str()) for name, each in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
