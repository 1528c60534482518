"""One run: load and faults side by side, rest, judgement, and the table that tells of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tests.chaos.faults import AT_PLUGGY, FAULTS, ON_SERVERS, Chaos
from tests.chaos.judge import Verdict, judge
from tests.chaos.ledger import ACKNOWLEDGED, REFUSED, UNANSWERED, Account, Ledger, read_ledger
from tests.chaos.load import Load
from tests.chaos.settling import Settled, settle
from tests.chaos.siege import Siege, besiege
from tests.chaos.stack import ChaosStack, open_stack
from tests.oracle.stack import ROOT

BUILD: Final = ROOT / "build" / "chaos"
SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything; the storm and the rest after it hang if they take so long.

    spare: so many more of each kind are tried, for those that do not happen.
    """

    acknowledged: int
    faults: int
    each: int
    rate: float
    items: int
    rows: int
    spool_to: int
    siege_s: float
    storm_timeout_s: float
    quiet_timeout_s: float
    server_lanes: int = 2
    spare: int = 0


SHORT: Final = Plan(
    acknowledged=3000,
    faults=30,
    each=2,
    rate=40,
    items=8,
    rows=160,
    spool_to=60,
    siege_s=20,
    storm_timeout_s=1200,
    quiet_timeout_s=600,
)
LONG: Final = Plan(
    acknowledged=100_000,
    faults=300,
    each=15,
    rate=140,
    items=24,
    rows=250,
    spool_to=300,
    siege_s=120,
    storm_timeout_s=33 * 60,
    quiet_timeout_s=5 * 60,
    spare=2,
)


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run has found."""

    plan: Plan
    seed: int
    account: Account
    siege: Siege
    faults: Mapping[str, int]
    detail: Mapping[str, int]
    most_spooled: int
    verdict: Verdict
    settled: Settled
    complaints: Mapping[str, int]
    unexpected_exits: Mapping[str, int]
    took_s: float

    @property
    def failures(self) -> list[str]:
        """What is not as promised, or not as much as wanted; nothing: the run is good."""
        plan, found = self.plan, self.verdict
        acknowledged = len(self.account.acknowledged)
        rare = [kind for kind in FAULTS if self.faults.get(kind, 0) < plan.each]
        wrong = {
            f"{len(found.lost)} events lost: {found.lost[:SHOWN]}": found.lost,
            f"{found.doubled} doubled: {found.stored_twice[:SHOWN]}": found.doubled,
            f"{found.mismatches} mismatches": found.mismatches,
            f"{len(found.unsettled)} events unsettled": found.unsettled,
            f"never quiet: {self.settled.state}": not self.settled.quiet,
            f"the ledger does not balance: {dict(self.account.outcomes)}": (
                not self.account.balanced
            ),
            f"{acknowledged} acknowledged of {plan.acknowledged}": acknowledged < plan.acknowledged,
            f"{sum(self.faults.values())} faults of {plan.faults}": (
                sum(self.faults.values()) < plan.faults
            ),
            f"too seldom: {', '.join(rare)}": rare,
            f"ended by themselves: {dict(self.unexpected_exits)}": any(
                self.unexpected_exits.values()
            ),
        }
        return [text for text, is_wrong in wrong.items() if is_wrong] + self.siege.failures

    def __str__(self) -> str:
        outcomes = self.account.outcomes
        rows: list[tuple[str, object]] = [
            *self.siege.rows,
            *sorted(self.faults.items()),
            ("faults", sum(self.faults.values())),
            *sorted((f"  {name}", times) for name, times in self.detail.items()),
            ("posts sent", self.account.sent),
            ("  acknowledged", outcomes[ACKNOWLEDGED]),
            ("  refused", outcomes[REFUSED]),
            ("  unanswered", outcomes[UNANSWERED]),
            ("events acknowledged", len(self.account.acknowledged)),
            *sorted((f"  {end}", times) for end, times in self.verdict.ends.items()),
            ("most spooled", self.most_spooled),
            ("lost", len(self.verdict.lost)),
            ("doubled", self.verdict.doubled),
            ("mismatches", self.verdict.mismatches),
            ("time to quiet", f"{self.settled.took_s:.0f} s"),
            ("  of back-offs skipped", f"{self.settled.skipped_s:.0f} s"),
            *((f"{kind} that ended by themselves", n) for kind, n in self.unexpected_exits.items()),
            *((f"log lines with {word}", times) for word, times in self.complaints.items()),
            ("seed", self.seed),
            ("took", f"{self.took_s:.0f} s"),
        ]
        lines = [f"{name:48}{value!s:>9}" for name, value in rows]
        return "\n".join(
            [*lines, *self.verdict.differences, *map("FAILED: {}".format, self.failures)]
        )


async def run(plan: Plan, seed: int) -> Report:
    """Play a plan from start to judgement."""
    started, path = time.monotonic(), BUILD / "ledger"
    async with open_stack(seed) as stack:
        with Ledger(path) as ledger:
            siege, chaos = await _storm(stack, ledger, plan, seed)
        settled = await settle(stack, plan.quiet_timeout_s)
        account = _read(path)
        verdict = await judge(stack, account)
        return Report(
            plan,
            seed,
            account,
            siege,
            chaos.done,
            chaos.detail,
            chaos.most_spooled,
            verdict,
            settled,
            stack.receivers.complaints(BUILD) + stack.workers.complaints(BUILD),
            {
                "receivers": len(stack.receivers.unexpected_exits),
                "workers": len(stack.workers.unexpected_exits),
            },
            time.monotonic() - started,
        )


def _read(path: Path) -> Account:
    with path.open(encoding="ascii") as lines:
        return read_ledger(lines)


async def _storm(stack: ChaosStack, ledger: Ledger, plan: Plan, seed: int) -> tuple[Siege, Chaos]:
    """Load until there are events enough and every fault has happened, or time is up.

    What strangers cost is measured before the first fault; they go on to the end.
    """
    load = Load(stack, ledger, plan.rate, Random(f"load:{seed}"))  # noqa: S311 - dice
    await load.connect(plan.items, plan.rows)
    dice = Random(f"faults:{seed}")  # noqa: S311 - dice
    chaos = Chaos(stack, load, dice, plan.spool_to, first_wire=seed)
    sending = asyncio.create_task(load.run())
    try:
        siege = await besiege(stack, load, plan.siege_s)
        await _strike(chaos, ledger, plan)
        load.end()
        await sending
    finally:
        sending.cancel()
    return siege, chaos


async def _strike(chaos: Chaos, ledger: Ledger, plan: Plan) -> None:
    """Raises what a fault raises that cannot be undone, as a server that does not start again."""
    until = time.monotonic() + plan.storm_timeout_s
    lanes = [asyncio.create_task(_lane(chaos, names, plan)) for names in _lanes(chaos, plan)]
    done, late = await asyncio.wait(
        lanes, timeout=plan.storm_timeout_s, return_when=asyncio.FIRST_EXCEPTION
    )
    for lane in late:
        lane.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for lane in done:
        lane.result()
    await chaos.stack.pluggy.json("DELETE", "/_simulator/faults")
    while len(ledger.acknowledged) < plan.acknowledged and time.monotonic() < until:  # noqa: ASYNC110 - a count, no event
        await asyncio.sleep(0.2)


def _lanes(chaos: Chaos, plan: Plan) -> list[list[str]]:
    """Every fault so often, in any order; those of Pluggy beside those of the servers."""
    each = plan.each + plan.spare
    ours, pluggys = list(ON_SERVERS) * each, list(AT_PLUGGY) * each
    chaos.dice.shuffle(ours)
    chaos.dice.shuffle(pluggys)
    return [*(ours[n :: plan.server_lanes] for n in range(plan.server_lanes)), pluggys]


async def _lane(chaos: Chaos, names: list[str], plan: Plan) -> None:
    """One fault after the other, spread over the time that the load takes."""
    clock = asyncio.get_running_loop().time
    started, every_s = clock(), 0.8 * plan.acknowledged / plan.rate / len(names)
    for number, name in enumerate(names):
        await asyncio.sleep(started + number * every_s - clock())
        await chaos.happen(name)
