"""The arguments of `pluggy-sync`, and which module runs which command."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from ops.cli.errors import CommandFailed
from ops.cli.lazy import Lazy, LazyGroup


class Commands(LazyGroup):
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


COMMANDS: Final = {
    "demo": Lazy("ops.demo.command", "demo", "Show the whole service at work"),
    "up": Lazy("ops.up.command", "up", "Run the whole service"),
    "migrate": Lazy("ops.cli.migrate", "migrate_command", "Bring the database up to date"),
    "status": Lazy("ops.cli.status", "status", "List what is wrong or waits for somebody"),
    "doctor": Lazy("ops.cli.doctor.command", "doctor", "Check settings, Postgres, Redis, Pluggy"),
    "worklist": Lazy("ops.cli.status", "worklist", "List the findings one by one"),
    "why": Lazy("ops.cli.why", "why", "Show why a transaction is stored as it is"),
    "report": Lazy("ops.cli.report", "report", "Show spending, cash flow, net worth"),
    "connect-token": Lazy("ops.cli.connect_token", "connect_token", "Print a connect token"),
    "connectors": Lazy("ops.cli.connectors", "connectors", "The banks and brokers"),
    "items": Lazy("ops.cli.main", "items", "Register, show and delete items."),
    "webhooks": Lazy("ops.cli.webhooks", "webhooks", "Webhooks registered at Pluggy"),
    "deletions": Lazy("ops.cli.deletions", "deletions", "Rows that Pluggy no longer returns"),
    "links": Lazy("ops.cli.links", "links", "Accounts of items that Pluggy ends"),
    "dead-letters": Lazy("ops.cli.dead_letters", "dead_letters", "Events that were given up on."),
    "verify": Lazy("ops.cli.verify", "verify", "Read items again from beginning to end at once"),
    "resync": Lazy("ops.cli.resync", "resync", "Read items again from beginning to end"),
    "completion": Lazy(
        "ops.cli.completion", "completion", "Print the script that completes commands"
    ),
    "ops": Lazy("ops.cli.ops", "ops", "Serve HTTP for your backend and for operators"),
}
ITEM_COMMANDS: Final = {
    "list": Lazy("ops.cli.item_list", "list_", "List items with the worst state"),
    "show": Lazy("ops.cli.item_show", "show", "Show how many rows of an item are stored"),
    "register": Lazy("ops.cli.items", "register", "Mirror items that exist at Pluggy"),
    "import": Lazy("ops.cli.items", "import_", "Mirror the items of a list"),
    "export": Lazy("ops.cli.item_list", "export", "Print the ids of mirrored items"),
    "update": Lazy("ops.cli.item_changes", "update", "Ask Pluggy to collect an item again now"),
    "set-webhook": Lazy("ops.cli.item_changes", "set_webhook", "Give an item a webhook of its own"),
    "disable-auto-sync": Lazy(
        "ops.cli.item_changes",
        "disable_auto_sync",
        "Have Pluggy no longer collect an item by itself",
    ),
    "deleted": Lazy("ops.cli.items", "deleted", "Report items that were deleted at Pluggy"),
    "delete": Lazy("ops.cli.item_deletion", "delete", "Erase an item"),
}


@click.group(
    cls=Commands,
    lazy=COMMANDS,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="pluggy-sync", message="pluggy-sync %(version)s")
def main() -> None:
    """Keeps a Postgres database equal to what Pluggy holds, seconds after each webhook."""


@click.group(cls=LazyGroup, lazy=ITEM_COMMANDS)
def items() -> None:
    """Register, show and delete items."""
