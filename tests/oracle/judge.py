"""Brings each item of a scenario to rest, and compares Postgres with Pluggy row for row.

Three times: after the webhooks, if none was lost; after a day, as far as its reconciliations reach;
after a week, everything. Besides, no acknowledged event may be lost and no work be left open.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NoReturn

from ops.compare.rows import EXTRA, Difference
from tests.oracle.comparison import READABLE_ALWAYS, Truth, differences
from tests.oracle.freshness import wrong_freshness
from tests.oracle.play import PlayedItem, Player
from tests.oracle.reconnection import Reconnection
from tests.oracle.rest import describe, let_a_day_pass, let_a_week_pass, order, rest
from tests.oracle.stack import OracleStack
from tests.support.left_work import left_work
from worker.store import operating

SHOWN: Final = 12
UNANNOUNCED: Final = frozenset({"investment_transactions"})
"""Tables whose changes come without a webhook and a date: only a verify finds them."""
RECENT_FOR: Final = timedelta(days=13)
"""Fourteen days are read again every day; the margin is for where a day begins."""
MAX_SHIFTS_WITHHELD: Final = 3

DEAD: Final = """
SELECT DISTINCT reason FROM pluggy_sync.webhook_events WHERE item_id = $1 AND state = 'dead'
"""
DEAD_OF_ITSELF: Final = frozenset({"404:ITEM_NOT_FOUND", "account_not_of_item"})
"""Reasons of events about something that was gone before it was read for the first time."""
WRITTEN: Final = """
SELECT coalesce(sum(inserted + changed + deleted), 0) FROM pluggy_sync.runs WHERE item_id = $1
"""


NAMELESS: Final = """
SELECT failure_code FROM pluggy_sync.runs
WHERE item_id = $1 AND failure_code ~ '^[45][0-9][0-9]' AND error_id IS NULL
"""


class Diverged(AssertionError):
    """Postgres is not what Pluggy is, or a promise about the work is broken."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges what a player has played."""

    player: Player

    @property
    def stack(self) -> OracleStack:
        return self.player.stack

    async def judge(self) -> None:
        """Raises Diverged, NeverRests."""
        for item in list(self.player.items):
            await self._judge(item)
            if item.again:
                await self._judge_reconnection(item)

    async def _judge(self, item: PlayedItem) -> None:
        await self.player.settle_down(item)
        if (await self._calm(item)).withheld:
            await self._outlast_withdrawal(item)
        # An unknown name does not announce a collection: an item that lags is believed.
        unseen = item.wire.renamed and item.lagged
        if not (item.wire.lost or item.lied or unseen):
            await self._compare(item, "after the webhooks", _unannounced(item))
            self.player.count("equal without reconciliation")
        await self._repair(item)
        if any(event["event"] == "item/deleted" for event in item.wire.lost):
            await self._deletion_arrives_late(item)
        await self._compare_after_reconciliation(item)
        await self.player.accept_deletions(item)
        await self._check_work(item)

    async def _judge_reconnection(self, item: PlayedItem) -> None:
        """Pluggy ends the item with its connector: nothing is lost, and nothing counts twice."""
        reconnection = Reconnection(self.player, item)
        problems = await reconnection.end()
        if problems is None:
            return
        if not problems:
            new = await reconnection.connect_again()
            await self._compare(new, "after a new connection")
            problems = await reconnection.miscounted(new)
            self.player.count("connector withdrawn")
        if problems:
            shown = "\n".join(problems[:SHOWN])
            raise Diverged(f"item {item.id}\n{shown}\n" + await describe(self.stack, item.id))

    async def _calm(self, item: PlayedItem) -> Truth:
        """Read the truth, ending a run that waits; then wait for its webhooks and their work.

        In this order: Pluggy collects by itself, and what it collects between the wait and the
        truth would be compared before its webhook has arrived.
        """
        truth = await self.stack.pluggy.truth(item.id)
        if truth.in_progress:
            await self.stack.pluggy.collect(item.id, {"created": 1})
            truth = await self.stack.pluggy.truth(item.id)
        await self.player.delivered()
        max_shifts = MAX_SHIFTS_WITHHELD if truth.withheld else None
        await rest(self.stack, item.id, max_shifts=max_shifts)
        if left := await left_work(self.stack.db, item.id):
            raise Diverged(
                "\n".join((f"item {item.id}", *left, await describe(self.stack, item.id)))
            )
        return truth

    async def _compare(
        self, item: PlayedItem, when: str, but: Collection[str] = (), *, allow_pending: bool = True
    ) -> Truth:
        """Compare with what Pluggy holds now, which another scenario's clock may have changed."""
        while True:
            truth = await self._calm(item)
            found = await differences(
                self.stack.db, item.id, truth, but=but, allow_pending=allow_pending
            )
            if not found:
                return truth
            if await self._stands(item, truth):
                await self._diverge(item, found, when)

    async def _stands(self, item: PlayedItem, truth: Truth) -> bool:
        return (await self.stack.pluggy.truth(item.id)).updated_at == truth.updated_at

    async def _diverge(self, item: PlayedItem, found: list[Difference], when: str) -> NoReturn:
        listing = "\n".join(map(str, found[:SHOWN]))
        lost = [event["event"] for event in item.wire.lost]
        raise Diverged(
            f"{len(found)} rows differ {when}, item {item.id}\n{listing}\nlost: {lost}\n"
            + await describe(self.stack, item.id)
        )

    async def _outlast_withdrawal(self, item: PlayedItem) -> None:
        """Nothing can be read, so nothing may be lost; with a new consent everything is again."""
        await self._compare(item, "without consent", READABLE_ALWAYS)
        await order(self.stack, "sync/verify", item.id)
        await self._compare(item, "after a verify without consent")
        await self.stack.pluggy.collect(item.id, {"consent": "renewed", "created": 1})
        self.player.count("consent renewed")

    async def _repair(self, item: PlayedItem) -> None:
        """Act as a person: requeue dead letters, register an item that was never announced."""
        dead = await operating.requeue_dead_letters(
            self.stack.db, ids=None, reason=None, item_id=uuid.UUID(item.id), connector_id=None
        )
        self.player.count("dead letter requeued", len(dead))
        known = await self.stack.db.fetchval(
            "SELECT EXISTS (SELECT FROM pluggy_sync.item_sync WHERE item_id = $1)", item.id
        )
        if not known:
            await self.stack.postman.register(item.id)
        await self._calm(item)

    async def _deletion_arrives_late(self, item: PlayedItem) -> None:
        """Without item/deleted a lasting 404 tombstones nothing; with it the whole item."""
        await let_a_day_pass(self.stack, item.id)
        tombstoned = await self.stack.db.fetchval(
            "SELECT count(*) FROM pluggy.items WHERE id = $1 AND deleted_at IS NOT NULL", item.id
        )
        if tombstoned:
            raise Diverged(f"item {item.id} was tombstoned without item/deleted")
        [deletion] = [event for event in item.wire.lost if event["event"] == "item/deleted"]
        self.stack.postman.deliver(item.wire, deletion)

    async def _compare_after_reconciliation(self, item: PlayedItem) -> None:
        """Compare after a day and after a week; reconciliation writes nothing if all was equal."""
        truth = await self._calm(item)
        equal = not await differences(self.stack.db, item.id, truth, allow_pending=False)
        before = await self.stack.db.fetchval(WRITTEN, item.id)
        await let_a_day_pass(self.stack, item.id)
        if not item.lied:
            await self._compare_recent(item)
        await let_a_week_pass(self.stack, item.id)
        await self._compare(item, "after a week")
        wrote = await self.stack.db.fetchval(WRITTEN, item.id) > before
        if equal and wrote and await self._stands(item, truth):
            raise Diverged(
                f"a verify of what was equal wrote rows, item {item.id}\n"
                + await describe(self.stack, item.id)
            )

    async def _compare_recent(self, item: PlayedItem) -> None:
        """A day heals what webhooks lost of recent rows, but for deletions."""
        truth = await self._calm(item)
        found = await differences(self.stack.db, item.id, truth)
        recent = truth.transactions_since((await self.stack.pluggy.now() - RECENT_FOR).date())
        unhealed = [d for d in found if d.kind != EXTRA and uuid.UUID(d.row_id) in recent]
        if unhealed and await self._stands(item, truth):
            await self._diverge(item, unhealed, "after a day")

    async def _check_work(self, item: PlayedItem) -> None:
        """A problem has to outlast a rest: Pluggy collects by itself, and workers look at it."""
        problems, before = await self._problems(item), list[str]()
        while problems and problems != before:
            before, problems = problems, await self._problems(item)
        if problems:
            shown = [*problems, f"item {item.id}", await describe(self.stack, item.id)]
            raise Diverged("\n".join(shown))

    async def _problems(self, item: PlayedItem) -> list[str]:
        """What is wrong with the work of an item at rest. Raises Diverged if rows differ."""
        truth = await self._compare(item, "after deletions were accepted", allow_pending=False)
        problems = self.stack.worker_group.complaints(item.id)
        problems += await self._lost(item) + await self._left_open(item)
        problems += await self._nameless(item)
        if truth.item is not None:
            problems += await wrong_freshness(self.stack.db, truth.item)
            problems += await self._set_aside(item)
        return problems

    async def _lost(self, item: PlayedItem) -> list[str]:
        """Events that earned a 2xx and are not stored, or died of something that is over."""
        accepted = frozenset(item.wire.accepted)
        stored = await self.stack.db.fetch(
            "SELECT event_id FROM pluggy_sync.webhook_events WHERE item_id = $1", item.id
        )
        missing = accepted - {record["event_id"] for record in stored}
        dead = [record["reason"] for record in await self.stack.db.fetch(DEAD, item.id)]
        for reason in dead:
            self.player.count(f"(dead letters left: {reason})")
        return [f"acknowledged, not stored: {event_id}" for event_id in missing] + [
            f"dead letter: {reason}" for reason in dead if reason not in DEAD_OF_ITSELF
        ]

    async def _left_open(self, item: PlayedItem) -> list[str]:
        records = await self.stack.db.fetch(
            "SELECT id FROM pluggy_sync.runs WHERE item_id = $1 AND finished_at IS NULL", item.id
        )
        return [f"run left open: {record['id']}" for record in records]

    async def _nameless(self, item: PlayedItem) -> list[str]:
        """Failures of answered requests without an id that Pluggy's support could look for."""
        records = await self.stack.db.fetch(NAMELESS, item.id)
        return [f"run without error_id: {record['failure_code']}" for record in records]

    async def _set_aside(self, item: PlayedItem) -> list[str]:
        rejected = await self.stack.db.fetch(
            "SELECT product, reason FROM pluggy_sync.rejected_rows WHERE item_id = $1", item.id
        )
        return [f"rejected: {dict(record)}" for record in rejected]


def _unannounced(item: PlayedItem) -> Collection[str]:
    """The tables whose changes are not announced by webhooks.

    A row that moved between two pages changes its account unannounced; an item that once showed an
    impossible time may be stored as it was shown until it is read again.
    """
    return (
        UNANNOUNCED | ({"accounts"} if item.moved else set()) | ({"items"} if item.odd else set())
    )
