"""Ingredients of our own processes: workers, Redis and Postgres come and go, and time passes."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.oracle.acts.faults import LISTS
from tests.oracle.acts.steps import Draw, seconds, single, some
from tests.oracle.scenario import Step


def stall(dice: Random) -> list[Step]:
    """A worker stands still with an answer on its way; its lease lapses, and it comes back."""
    slow = {"kind": "slow", "match": dice.choice(LISTS), "times": 1, "seconds": 0.4}
    return [
        {"do": "fault", "fault": slow},
        some(dice),
        {"do": "pause", "ms": dice.randrange(20, 300)},
        {"do": "stop", "nth": dice.randrange(4)},
        some(dice),
        {"do": "shift", "seconds": 31},
        {"do": "pause", "ms": dice.randrange(50, 600)},
        {"do": "resume"},
    ]


def kill(dice: Random) -> list[Step]:
    """A worker is gone, often in the middle of a sync."""
    return [
        some(dice) if dice.random() < 0.7 else {"do": "verify"},
        {"do": "pause", "ms": dice.randrange(0, 200)},
        {"do": "kill", "nth": dice.randrange(4)},
        {"do": "shift", "seconds": 31},
    ]


def deploy(dice: Random) -> list[Step]:
    return [
        some(dice),
        {"do": "pause", "ms": dice.randrange(100)},
        {"do": "deploy", "nth": dice.randrange(4)},
    ]


def flush(dice: Random) -> list[Step]:
    return [some(dice), {"do": "flush"}] if dice.random() < 0.5 else [{"do": "flush"}, some(dice)]


def outage(dice: Random) -> list[Step]:
    """Postgres is away while a sync is under way and while webhooks come."""
    away: Step = {"do": "postgres_away", "seconds": round(dice.uniform(0.05, 1.2), 2)}
    return [some(dice), {"do": "pause", "ms": dice.randrange(120)}, away, some(dice)]


def failover(*, killed: bool) -> Draw:
    """Postgres takes no writes for a while; often sessions of that time are still there later."""

    def draw(dice: Random) -> list[Step]:
        step = {"do": "read_only", "seconds": round(dice.uniform(0.05, 1.0), 2), "killed": killed}
        return [some(dice), {"do": "pause", "ms": dice.randrange(120)}, step, some(dice)]

    return draw


PROCESSES: Final[dict[str, Draw]] = {
    "worker killed": kill,
    "worker stopped": stall,
    "worker deployed": deploy,
    "more or fewer workers": lambda dice: [{"do": "resize"}, some(dice)],
    "redis emptied": flush,
    "postgres away": outage,
    "read-only sessions killed": failover(killed=True),
    "read-only sessions left": failover(killed=False),
    "clock of Postgres back": lambda dice: [
        *(some(dice) for _ in range(dice.randrange(2))),
        {"do": "step_back", "seconds": dice.choice((1, 30, 600, 4000))},
        some(dice),
    ],
    "time shift": single("shift", seconds=seconds(60, 90_000)),
    "clock": single("clock", seconds=seconds(60, 9_000)),
    "verify": single("verify"),
}
