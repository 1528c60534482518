"""`python -m tests.chaos`: break everything under load for up to 40 minutes, or `--short`."""

from __future__ import annotations

import asyncio
import sys
import time

import click

from tests.chaos.run import LONG, SHORT, run


@click.command()
@click.option("--short", is_flag=True, help="A few minutes instead.")
@click.option("--seed", type=int, help="[default: the time]")
def main(short: bool, seed: int | None) -> None:
    """Exit status 1 if an event was lost or doubled, a row differs, or a quota was missed."""
    report = asyncio.run(run(SHORT if short else LONG, int(time.time()) if seed is None else seed))
    click.echo(report)
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
