"""Many scenarios side by side on one stack: what failed, how long it took, what occurred."""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from ops.demo.processes import ChildEnded
from tests.oracle.draw import INGREDIENTS, draw_scenarios
from tests.oracle.judge import Diverged, Judge
from tests.oracle.play import Player
from tests.oracle.rest import NeverRests
from tests.oracle.scenario import Scenario, Step, read_trace, write_trace
from tests.oracle.shrink import shrink
from tests.oracle.stack import ROOT, OracleStack

TRACES: Final = ROOT / "build" / "oracle"
MIN_OCCURRENCES: Final = 20
"""Each ingredient has to occur so often."""
WHOLE: Final = 300
"""Scenarios of which that can be asked."""
MORE: Final = 1.5
"""How much longer than wanted a campaign goes on for ingredients that are still rare."""
EXPECTED: Final = frozenset(
    {
        *INGREDIENTS,
        "item connected",
        "item of MeuPluggy",
        "item deleted",
        "consent renewed",
        "deletions accepted",
        "dead letter requeued",
        "equal without reconciliation",
        "two workers and more",
        "webhook spooled",
    }
)


SOURCES: Final = {
    "consent renewed": "consent revoked",
    "dead letter requeued": "fault refused",
    "deletions accepted": "deleted by the dozen",
    "webhook spooled": "postgres away",
}
"""The ingredient that leads to one that is not drawn."""


@dataclass(slots=True)
class Campaign:
    """Plays scenarios until there are enough, time is up, or too many have failed."""

    stack: OracleStack
    seed: int
    at_once: int = 10
    stop_after: int = 5
    played: int = 0
    acts: int = 0
    took_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    async def run(self, *, scenarios: int, minutes: float | None = None) -> None:
        """So many scenarios and more while ingredients are rare, or as many as minutes allow."""
        started = time.monotonic()
        until = None if minutes is None else started + minutes * 60
        drawn = self._drawn(scenarios, until)
        await asyncio.gather(*(self._play_on(drawn) for _ in range(self.at_once)))
        self.failures += [*self.stack.worker_group.complaints(), *self.stack.postman.failures]
        self.took_s = time.monotonic() - started

    def _drawn(self, scenarios: int, until: float | None) -> Iterator[Scenario]:
        enough_at = math.inf if until is not None else scenarios
        drawn = draw_scenarios(self.seed, lambda: self._wanted(enough_at))
        for number, scenario in enumerate(drawn):
            if len(self.failures) >= self.stop_after:
                return
            if until is not None and time.monotonic() > until:
                return
            enough = number >= enough_at and not self.rare()
            if enough or number >= MORE * enough_at:
                return
            yield scenario

    def _wanted(self, enough_at: float) -> set[str]:
        """All ingredients; once there are scenarios enough, those that are still rare."""
        if self.played < enough_at:
            return set(INGREDIENTS)
        return {SOURCES.get(name, name) for name in self.rare()} & set(INGREDIENTS)

    async def _play_on(self, drawn: Iterator[Scenario]) -> None:
        for scenario in drawn:
            failure = await play(self.stack, scenario)
            self.played += 1
            self.acts += scenario.acts
            if failure is not None:
                self.failures.append(failure)
                click.echo(failure)

    @property
    def counts(self) -> Counter[str]:
        return self.stack.counts + self.stack.postman.counts

    def rare(self) -> set[str]:
        """Ingredients that have not occurred often enough."""
        return {name for name in EXPECTED if self.counts[name] < MIN_OCCURRENCES}

    @property
    def passed(self) -> bool:
        """Nothing diverged; and of a whole campaign, that no ingredient is missing."""
        return not self.failures and not (self.played >= WHOLE and self.rare())

    def report(self) -> str:
        """The table of ingredients, and the figures."""
        lines = [f"{name:42}{self.counts[name]:7}" for name in sorted({*EXPECTED, *self.counts})]
        if self.played >= WHOLE:
            lines += [f"fewer than {MIN_OCCURRENCES} times: {name}" for name in sorted(self.rare())]
        lines += [failure.splitlines()[0] for failure in self.failures]
        lines.append(
            f"seed {self.seed}: {self.played} scenarios, {self.acts} steps, {self.took_s:.0f} s,"
            f" {len(self.failures)} failures"
        )
        return "\n".join(lines)


async def play(stack: OracleStack, scenario: Scenario, *, keep: bool = True) -> str | None:
    """Play one scenario; of a failure the text is returned, and a trace is kept."""
    player, started = Player(stack, scenario), time.monotonic()
    try:
        claims = await stack.claims()
        await player.play()
        await Judge(player).judge()
        stack.worker_group.check()
        await _count_workers(player, claims)
    except (Diverged, NeverRests, ChildEnded) as error:
        failure = f"{type(error).__name__}: {error}"
    except Exception:
        failure = traceback.format_exc()
    else:
        return None
    finally:
        await player.leave()
    if keep:
        path = TRACES / f"{scenario.seed}.json"
        write_trace(path, replace(scenario, steps=_as_played(player, started)), failure)
        failure = (
            f"scenario {scenario.seed} failed after {len(player.played)} of"
            f" {len(scenario.steps)} steps, trace {path}\n{failure}\n"
        )
    return failure


async def _count_workers(player: Player, before: Mapping[str, float]) -> None:
    """Whether at least two workers have claimed items since."""
    now = await player.stack.claims()
    at_work = [name for name, claims in now.items() if claims > before.get(name, 0.0)]
    player.count("two workers and more", len(at_work) > 1)


def _as_played(player: Player, started: float) -> list[Step]:
    """All steps of the scenario, with what others did to the whole stack meanwhile."""
    foreign = [
        (d.at, d.step | {"foreign": True, "item": 0})
        for d in player.stack.journal
        if d.at >= started and d.scenario != player.scenario.seed
    ]
    merged = sorted([*player.played, *foreign], key=lambda entry: entry[0])
    return [step for _, step in merged] + player.scenario.steps[len(player.played) :]


async def play_trace(stack: OracleStack, path: Path, times: int) -> str | None:
    """Play a trace again, so often or until it fails; returns how."""
    scenario = read_trace(path)
    for number in range(1, times + 1):
        if (failure := await play(stack, scenario, keep=False)) is not None:
            return f"time {number}: {failure}"
    return None


async def shrink_trace(stack: OracleStack, path: Path, times: int) -> Path:
    """Write a shorter trace that still fails within so many plays; returns where."""

    async def fails(scenario: Scenario) -> bool:
        click.echo(f"{len(scenario.steps)} steps")
        for _ in range(times):
            if await play(stack, scenario, keep=False) is not None:
                return True
        return False

    found = await shrink(read_trace(path), fails)
    shorter = path.with_suffix(".short.json")
    write_trace(shorter, found, f"shrunk from {path.name}")
    return shorter
