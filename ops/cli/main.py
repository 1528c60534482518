"""The arguments of `pluggy-sync`, and which module runs which command."""

from __future__ import annotations

import sys
from typing import Any

import click

from ops.cli.console import CommandFailed
from ops.cli.dead_letters import dead_letters
from ops.cli.deletions import flags
from ops.cli.item_deletion import delete
from ops.cli.items import items
from ops.cli.links import links
from ops.cli.migrate import migrate_command
from ops.cli.resync import resync
from ops.cli.status import status, worklist
from ops.cli.webhooks import webhooks
from ops.cli.why import why
from ops.demo.command import demo


class Commands(click.Group):
    """Commands that end with one line also where their input or output fails."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            text = f"input or output fails: {error.strerror or type(error).__name__}"
        except UnicodeEncodeError as error:
            text = f"the output cannot be written as {error.encoding}"
        CommandFailed(text).show()
        sys.exit(CommandFailed.exit_code)


@click.group(
    cls=Commands, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]}
)
def main() -> None:
    """Keeps a Postgres database equal to what Pluggy holds, seconds after each webhook."""


items.add_command(delete)
for command in (
    migrate_command,
    items,
    status,
    worklist,
    dead_letters,
    resync,
    flags,
    why,
    links,
    webhooks,
    demo,
):
    main.add_command(command)
