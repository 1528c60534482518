"""`pluggy-sync demo`: the options of the demo."""

from __future__ import annotations

import os
import sys

import click

from ops.cli.console import CommandFailed


@click.command()
@click.option("--items", type=click.IntRange(1), default=5, help="Items to connect.")
@click.option("--transactions", type=click.IntRange(0), default=2000, help="Of each item.")
@click.option("--seed", default=1, help="Same seed, same data.")
@click.option("--rounds", type=click.IntRange(0), default=3, help="Collections of each item.")
@click.option("--workers", type=click.IntRange(1), default=2, help="Worker processes.")
@click.option("--sabotage", is_flag=True, help="Break three rows before the comparison.")
@click.option("--duel", is_flag=True, help="Beside it a handler of an afternoon; bad seconds.")
@click.option("--exit", "leave", is_flag=True, help="End after the comparison.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON, last on standard output.")
def demo(**options: int | bool) -> None:
    """Show the whole service at work against a simulated Pluggy.

    Starts Postgres and Redis of its own, or uses DATABASE_URL and REDIS_URL, on which it leaves
    nothing behind. The exit status is 0 only if every row is equal to Pluggy's.
    """
    from ops.demo.duel import MIN_ITEMS
    from ops.demo.run import run_demo
    from ops.demo.stage import DemoFailed, DemoOptions

    if options["duel"] and options["items"] < MIN_ITEMS:
        raise click.UsageError(f"--duel needs --items {MIN_ITEMS} or more")
    chosen = DemoOptions(
        **options,  # type: ignore[arg-type]
        database_url=os.environ.get("DATABASE_URL") or None,
        redis_url=os.environ.get("REDIS_URL") or None,
    )
    try:
        status = run_demo(chosen)
    except DemoFailed as error:
        raise CommandFailed(str(error)) from error
    sys.exit(status)
