"""`pluggy-sync up`: its options, and one message for whatever keeps it from running."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

import click

from ops.cli.errors import CommandFailed
from ops.cli.terminal_text import neutral


class UpFailed(CommandFailed):
    """Ends `up` with a message of several lines, such as the last ones of a process."""

    def show(self, file: IO[Any] | None = None) -> None:
        lines = (neutral(line) for line in self.format_message().splitlines())
        click.echo("pluggy-sync: " + "\n".join(lines), err=True, file=file)


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Start Postgres and Valkey, and keep their data here.",
)
@click.option("--simulator", is_flag=True, help="Against a simulated Pluggy, without an account.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Worker processes.")
def up(data_dir: Path | None, simulator: bool, workers: int) -> None:
    """Run the whole service: receiver, workers and what they need, restarted when they end.

    Servers given by DATABASE_URL and REDIS_URL are used, others are started in the data directory.
    Ctrl-C stops everything in order, a second one at once.
    """
    from ops.up.data_directory import DirectoryRefused
    from ops.up.output import open_output
    from ops.up.run import run_up
    from ops.up.settings import UpOptions, UpRefused
    from ops.up.supervisor import GaveUp, UnitFailed
    from worker.infra.settings import SettingsError

    try:
        status = run_up(UpOptions(data_dir, simulator, workers), open_output())
    except (DirectoryRefused, GaveUp, SettingsError, UnitFailed, UpRefused) as error:
        raise UpFailed(str(error)) from error
    sys.exit(status)
