"""Makes a failing trace shorter: steps are left out as long as it goes on failing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.oracle.scenario import Scenario, Step

Fails = Callable[[Scenario], Awaitable[bool]]


async def shrink(scenario: Scenario, fails: Fails) -> Scenario:
    """Leave out ever smaller runs of steps, until no single one can be left out any more."""
    size = max(1, len(scenario.steps) // 2)
    while True:
        scenario, shorter = await _without_runs(scenario, size, fails)
        if size == 1 and not shorter:
            return scenario
        size = size if shorter else max(1, size // 2)


async def _without_runs(scenario: Scenario, size: int, fails: Fails) -> tuple[Scenario, bool]:
    shorter, start = False, 0
    while start < len(scenario.steps):
        steps: list[Step] = scenario.steps[:start] + scenario.steps[start + size :]
        candidate = replace(scenario, steps=steps)
        if await fails(candidate):
            scenario, shorter = candidate, True
        else:
            start += size
    return scenario, shorter
