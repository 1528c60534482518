"""The command line: `pluggy-sync`."""

from __future__ import annotations

import click

from ops.cli_flags import flags
from ops.dead_letters import dead_letters
from ops.demo_command import demo
from ops.items import items
from ops.migrate_command import migrate_command
from ops.resync import resync
from ops.status import status
from ops.webhooks import webhooks


@click.group(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keeps a Postgres database equal to what Pluggy holds, seconds after each webhook."""


for command in (migrate_command, items, status, dead_letters, resync, flags, webhooks, demo):
    main.add_command(command)
