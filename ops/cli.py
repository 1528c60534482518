"""The command line: `pluggy-sync`."""

from __future__ import annotations

import sys
from typing import Any

import click

from ops.cli_flags import flags
from ops.console import CommandFailed
from ops.dead_letters import dead_letters
from ops.demo_command import demo
from ops.items import items
from ops.migrate_command import migrate_command
from ops.resync import resync
from ops.status import status, worklist
from ops.webhooks import webhooks


class Commands(click.Group):
    """Commands that end with one line also where their input or output fails."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            told = f"input or output fails: {error.strerror or type(error).__name__}"
        except UnicodeEncodeError as error:
            told = f"the output cannot be written as {error.encoding}"
        CommandFailed(told).show()
        sys.exit(CommandFailed.exit_code)


@click.group(
    cls=Commands, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]}
)
def main() -> None:
    """Keeps a Postgres database equal to what Pluggy holds, seconds after each webhook."""


for command in (
    migrate_command,
    items,
    status,
    worklist,
    dead_letters,
    resync,
    flags,
    webhooks,
    demo,
):
    main.add_command(command)
