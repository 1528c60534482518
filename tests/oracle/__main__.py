"""`python -m tests.oracle`: play scenarios, or one trace again, or go on for so many minutes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from tests.oracle.campaign import Campaign, play_trace
from tests.oracle.stack import open_stack


@click.command()
@click.option("--trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--times", default=1, help="Play the trace so often, or until it fails.")
@click.option("--scenarios", default=200)
@click.option("--minutes", type=float, help="Go on so long instead.")
@click.option("--at-once", default=8)
@click.option("--workers", default=2)
@click.option("--seed", default=1)
@click.option("--stop-after", default=5, help="Give up after so many failures.")
def main(
    trace: Path | None,
    times: int,
    scenarios: int,
    minutes: float | None,
    at_once: int,
    workers: int,
    seed: int,
    stop_after: int,
) -> None:
    """Exit status 1 if anything diverged."""
    sys.exit(
        asyncio.run(_run(trace, times, scenarios, minutes, at_once, workers, seed, stop_after))
    )


async def _run(
    trace: Path | None,
    times: int,
    scenarios: int,
    minutes: float | None,
    at_once: int,
    workers: int,
    seed: int,
    stop_after: int,
) -> int:
    async with open_stack(workers=workers, seed=seed) as stack:
        if trace is not None:
            return await play_trace(stack, trace, times)
        campaign = Campaign(stack, seed=seed, at_once=at_once, stop_after=stop_after)
        await campaign.run(scenarios=scenarios, minutes=minutes)
        click.echo(campaign.report())
        return 1 if campaign.failures else 0


if __name__ == "__main__":
    main()
