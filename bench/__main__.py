"""`make bench`: the simulator, the loop's waits, the service, forged webhooks; a JSON line each."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict

import click

from bench import forged, simulator, waits


def whole_service(*, quick: bool) -> dict[str, object]:
    """The demo's summary: rows, requests, and milliseconds from webhook to row."""
    items, transactions = (2, 500) if quick else (10, 5000)
    command = [sys.executable, "-m", "ops", "demo", "--exit", "--json"]
    command += ["--items", str(items), "--transactions", str(transactions)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    summary: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return summary


@click.command()
@click.option("--quick", is_flag=True, help="Smaller loads; a minute instead of several.")
def main(quick: bool) -> None:
    """Compare figures of one run only: machines and their load differ."""
    click.echo(json.dumps({"simulator": asdict(simulator.measure(quick=quick))}))
    click.echo(json.dumps({"loop_waits_ms": asdict(waits.measure())}))
    click.echo(json.dumps({"service": whole_service(quick=quick)}))
    for run in forged.runs(quick=quick):
        figures = asyncio.run(forged.measure(run))
        click.echo(json.dumps({"forged": asdict(run) | asdict(figures)}))


if __name__ == "__main__":
    main()
