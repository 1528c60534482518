"""`python -m tests.oracle`: play scenarios, or a trace again, or go on for so many minutes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from tests.oracle.campaign import WHOLE, Campaign, play_trace, shrink_trace
from tests.oracle.reconnection import withdraw_connector
from tests.oracle.stack import OracleStack, open_stack

Work = Callable[[OracleStack], Awaitable[bool]]


@click.command(context_settings={"show_default": True})
@click.option("--trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--times", default=3, help="Play the trace so often, or until it fails.")
@click.option("--shrink", is_flag=True, help="Make the failing trace shorter.")
@click.option("--scenarios", default=WHOLE)
@click.option("--minutes", type=float, help="Go on so long instead.")
@click.option("--at-once", default=10, help="Scenarios side by side.")
@click.option("--workers", default=2)
@click.option("--seed", type=int, help="[default: the time]")
@click.option("--stop-after", default=5, help="Give up after so many failures.")
def main(
    trace: Path | None,
    times: int,
    shrink: bool,
    scenarios: int,
    minutes: float | None,
    at_once: int,
    workers: int,
    seed: int | None,
    stop_after: int,
) -> None:
    """Exit status 1 if anything diverged, or if 300 scenarios lack an ingredient."""
    seed = int(time.time()) if seed is None else seed

    async def replay(stack: OracleStack) -> bool:
        assert trace is not None, "nothing to replay"
        if shrink:
            click.echo(f"written to {await shrink_trace(stack, trace, times)}")
            return True
        failure = await play_trace(stack, trace, times)
        click.echo(failure or f"equal, {times} times")
        return failure is None

    async def explore(stack: OracleStack) -> bool:
        campaign = Campaign(stack, seed=seed, at_once=at_once, stop_after=stop_after)
        await campaign.run(scenarios=scenarios, minutes=minutes)
        click.echo(campaign.report())
        return campaign.passed

    work = explore if trace is None else replay
    sys.exit(0 if asyncio.run(_on_a_stack(work, workers, seed)) else 1)


async def _on_a_stack(work: Work, workers: int, seed: int) -> bool:
    async with open_stack(workers=workers, seed=seed) as stack:
        await withdraw_connector(stack)
        return await work(stack)


if __name__ == "__main__":
    main()
