"""The siege: strangers on 20 connections beside genuine deliveries, before anything else fails."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ops.demo.processes import Child
from tests.chaos.hostile import CONNECTIONS, KINDS
from tests.chaos.ledger import ACKNOWLEDGED
from tests.chaos.load import Load
from tests.chaos.stack import ChaosStack

MAX_P99_MS: Final = 200.0
"""99 of 100 genuine deliveries are answered in less, if the machine itself lets them."""
SLOWER: Final = 10
"""Where other programs keep the machine busy: so many times the p99 before the strangers came."""
HANGS_AFTER_S: Final = 600.0
POLL_INTERVAL_S: Final = 0.2
NOT_BEGUN: Final = """
SELECT count(*) FILTER (WHERE state = 'applied') < $1
FROM pluggy_sync.webhook_events WHERE event = 'item/created'
"""
MIN_DELIVERIES: Final = 300
"""Deliveries that a percentile is made of."""


@dataclass(frozen=True, slots=True)
class Siege:
    """What became of the genuine deliveries, and how often the strangers were done with.

    calm_ms: what deliveries took before the strangers came.
    """

    calm_ms: Sequence[float]
    took_ms: Sequence[float]
    outcomes: Counter[str]
    attacks: Counter[str]

    @property
    def failures(self) -> list[str]:
        p99_ms = _p99(self.took_ms)
        turned_away = self.outcomes.total() - self.outcomes[ACKNOWLEDGED]
        idle = [kind for kind in KINDS if not self.attacks[kind]]
        wrong = {
            f"besieged: {turned_away} genuine deliveries not acknowledged": turned_away,
            f"besieged: p99 of {p99_ms:.0f} ms, before {_p99(self.calm_ms):.0f} ms": (
                p99_ms >= max(MAX_P99_MS, SLOWER * _p99(self.calm_ms))
            ),
            f"besieged: {len(self.took_ms)} genuine deliveries": len(self.took_ms) < MIN_DELIVERIES,
            f"besieged: no {', '.join(idle)}": idle,
        }
        return [text for text, is_wrong in wrong.items() if is_wrong]

    @property
    def rows(self) -> list[tuple[str, object]]:
        return [
            (f"besieged by {CONNECTIONS} connections: deliveries", len(self.took_ms)),
            ("  p99 in ms", f"{_p99(self.took_ms):.0f}"),
            ("  p99 in ms before", f"{_p99(self.calm_ms):.0f}"),
            *((f"  {outcome}", times) for outcome, times in sorted(self.outcomes.items())),
            *((f"  {kind} done with", self.attacks[kind]) for kind in KINDS),
        ]


async def besiege(stack: ChaosStack, load: Load, seconds: float) -> Siege:
    """Watch what the load's deliveries meet for so long and longer, until each kind of attack is
    done with once; before that, for half as long, what they meet without strangers.

    Not before the receivers listen and the workers have read all items for the first time: what the
    strangers cost is measured, not what starting does.
    """
    async with asyncio.timeout(HANGS_AFTER_S):
        while await stack.db.fetchval(NOT_BEGUN, len(load.items)):  # noqa: ASYNC110 - processes
            await asyncio.sleep(POLL_INTERVAL_S)
        calm = await _watch(load, seconds / 2)
        strangers = stack.send_strangers()
        while not attacks(strangers):  # noqa: ASYNC110 - a log is read
            await asyncio.sleep(POLL_INTERVAL_S)
        before, answers = attacks(strangers), await _watch(load, seconds)
        while len(answers) < MIN_DELIVERIES or any(
            not (attacks(strangers) - before)[kind] for kind in KINDS
        ):
            answers += await _watch(load, POLL_INTERVAL_S)
    return Siege(
        [took_s * 1000 for took_s, _ in calm],
        [took_s * 1000 for took_s, _ in answers],
        Counter(outcome for _, outcome in answers),
        attacks(strangers) - before,
    )


async def _watch(load: Load, seconds: float) -> list[tuple[float, str]]:
    """How long each POST of so many seconds took, in seconds, and its outcome."""
    load.answers.clear()
    await asyncio.sleep(seconds)
    return list(load.answers)


def _p99(took_ms: Sequence[float]) -> float:
    return sorted(took_ms)[int(0.99 * len(took_ms))] if took_ms else 0.0


def attacks(strangers: Child) -> Counter[str]:
    """The last counts in the log of the strangers."""
    reports = [json.loads(line) for line in strangers.lines() if '"attacked"' in line]
    return Counter({kind: reports[-1].get(kind, 0) for kind in KINDS} if reports else {})
