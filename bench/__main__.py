"""`make bench`: each question in turn; figures go to bench/results.json and docs/performance.md.

`--quick` takes smaller loads, fewer rounds and writes nothing. `--check` compares counts and ratios
with the committed results, names what is worse by more than a quarter, and writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any, Final

import click
import structlog

import embedded
from bench import (
    accept,
    barrier,
    economy,
    forged,
    job,
    pages,
    scale,
    simulator,
    visible,
    waits,
    wake,
)
from bench.figures import not_compared, worse
from bench.peers import environment
from bench.results import load, record, write_page

Figures = dict[str, Any]


async def store(*, quick: bool) -> Figures:
    """Rows a second of one account's pages; see bench/pages.py."""
    rows, rounds = (2000, 3) if quick else (8000, 5)
    with embedded.database(durable=True) as url, embedded.redis() as redis_url:
        return await pages.measure(url, redis_url, rows, rounds)


async def of_simulator(*, quick: bool) -> Figures:
    """How fast the simulator itself is."""
    return asdict(await asyncio.to_thread(simulator.measure, quick=quick))


async def of_waits(*, quick: bool) -> Figures:
    """How long the loop waits for heavy inputs."""
    return asdict(await asyncio.to_thread(waits.measure))


async def of_forged(*, quick: bool) -> Figures:
    """Genuine webhooks beside forged ones."""
    return {str(asdict(run)): asdict(await forged.measure(run)) for run in forged.runs(quick=quick)}


def machine() -> Figures:
    """What the figures depend on, as text: nothing to compare."""
    found = {"cores": str(os.cpu_count()), "Python": platform.python_version()}
    found["load average at the start"] = f"{os.getloadavg()[0]:.1f}"
    return found | environment.versions()


Question = Callable[..., Coroutine[Any, Any, Figures]]
COMPARED: Final[dict[str, Question]] = {
    "economy": economy.measure,
    "accept": accept.measure,
    "wake": wake.measure,
    "visible": visible.measure,
    "barrier": barrier.measure,
    "store": store,
    "job": job.measure,
    "scale": scale.measure,
}
PRINTED: Final[dict[str, Question]] = {
    "simulator": of_simulator,
    "waits": of_waits,
    "forged": of_forged,
}
"""Only printed, and only if they are named."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*COMPARED, *PRINTED]))
@click.option("--quick", is_flag=True, help="Smaller loads; minutes. Nothing is written.")
@click.option("--check", is_flag=True, help="Compare with the committed results; writes nothing.")
def main(names: tuple[str, ...], quick: bool, check: bool) -> None:
    """Compare figures of one run only: machines and their load differ."""
    # As after Ctrl-C, the servers are stopped and their directories removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    kept = not (quick or check)
    committed, on = load(), machine()
    found, failed = _measured(names or tuple(COMPARED), quick=quick, kept=kept)
    if kept:
        if not names:
            record("machine", on)
        write_page()
    if failed:
        raise click.ClickException(f"not measured: {', '.join(failed)}")
    if check:
        for line in sorted(not_compared(committed, found)):
            click.echo(f"not compared: {line}", err=True)
        if lines := list(worse(committed, found)):
            raise click.ClickException("worse by more than a quarter:\n" + "\n".join(lines))
        click.echo("no count and no ratio is worse by more than a quarter")


def _measured(
    names: Sequence[str], *, quick: bool, kept: bool
) -> tuple[dict[str, Figures], list[str]]:
    """Figures by question, and the questions that failed: the others are of use without them."""
    found: dict[str, Figures] = {}
    failed: list[str] = []
    for name in names:
        try:
            found[name] = asyncio.run((COMPARED | PRINTED)[name](quick=quick))
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        for figure, value in found[name].items():
            click.echo(f"{name:9} {figure:64} {json.dumps(value)}")
        if kept and name in COMPARED:
            record(name, found[name])
    return found, failed


if __name__ == "__main__":
    main()
