"""Plays the steps of a scenario on the running stack."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp
import asyncpg

from ops.demo.processes import Child
from ops.demo.simulator import ControlRefused
from tests.oracle import ingredients
from tests.oracle.postman import Wire
from tests.oracle.rest import NeverRests, is_settled, order, pause_until_idle, shift
from tests.oracle.scenario import MEU_PLUGGY, OPEN_FINANCE, WITHDRAWN, Scenario, Step
from tests.oracle.stack import HANG_S, OracleStack
from worker.maintenance.deletion_review import Decided, accept_deletions

STACK_WIDE: Final = frozenset(
    {
        *("kill", "deploy", "resize", "stop", "resume", "flush"),
        *("postgres_away", "read_only", "revoke_keys", "clock"),
    }
)
BEFORE_CONNECT: Final = frozenset(
    {"connect", "hold", "lose", "twice", "rename", "release", "pause"}
)
LAST_COLLECTION: Final = "SELECT payload ->> 'lastUpdatedAt' FROM pluggy.items WHERE id = $1"
BALANCE_UNREAD: Final = (ControlRefused, aiohttp.ClientError, TimeoutError, ValueError)
LIST_DUE: Final = """
UPDATE pluggy_sync.periodic_task_leases SET due_at = '-infinity' WHERE name = 'items_list'
RETURNING clock_timestamp()
"""
LISTED_SINCE: Final = """
SELECT count(*) FROM pluggy_sync.periodic_task_leases WHERE name = 'items_list' AND done_at > $1
"""
LAGGING_ITEM: Final = "GET /items"
BELIEVED_WHEN_LATE: Final = frozenset({LAGGING_ITEM, "GET /accounts"})
LAGGING_ROWS: Final = "GET /v2/transactions"
DELETING: Final = ("deleted", "restated", "settled", "close")
"""Parts of an order that delete transactions."""


@dataclass(slots=True)
class PlayedItem:
    """An item of a scenario: its wire, its faults, and whether anybody lied about it."""

    options: dict[str, Any]
    wire: Wire = field(default_factory=Wire)
    id: str = ""
    faults: list[dict[str, Any]] = field(default_factory=list)
    lied: bool = False
    odd: bool = False
    lagged: bool = False
    moved: bool = False
    deleted: bool = False
    again: dict[str, Any] = field(default_factory=dict)
    """How the person connects again after Pluggy has withdrawn the connector; empty: not so."""


@dataclass(slots=True)
class Player:
    """Plays one scenario."""

    stack: OracleStack
    scenario: Scenario
    items: list[PlayedItem] = field(default_factory=list)
    stopped: list[Child] = field(default_factory=list)
    played: list[tuple[float, Step]] = field(default_factory=list)
    listed_at: datetime | None = None

    async def play(self) -> None:
        """Take all steps."""
        self.items = [PlayedItem(options) for options in self.scenario.items]
        for step in self.scenario.steps:
            await self._take(step)

    async def leave(self) -> None:
        """Leave nothing behind that could trouble another scenario."""
        self._resume_all()
        if self.listed_at is not None:
            self.count("items list", await self.stack.db.fetchval(LISTED_SINCE, self.listed_at))
        for item in self.items:
            item.wire.closed = True
            await self.stack.pluggy.clear_faults(item.id)
            if item.id and not item.deleted:
                await self.stack.pluggy.remove_item(item.id)

    async def settle_down(self, item: PlayedItem) -> None:
        """End everything that disturbs an item; what is late arrives."""
        self._resume_all()
        if not item.id:
            await self._connect(item, {})
        await self._clear(item, {})
        item.wire.lose = item.wire.twice = item.wire.singular = item.wire.unknown = 0
        await self.delivered()
        self.stack.postman.release(item.wire)
        await self.delivered()

    async def delivered(self) -> None:
        """Wait until nothing is on its way to Postgres. Raises NeverRests."""
        if not await self._delivered_within(HANG_S):
            raise NeverRests("webhooks are not delivered")

    async def _delivered_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while await self._is_on_its_way():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _is_on_its_way(self) -> bool:
        """Asked in the order of the way: what has just left one place is seen at the next."""
        if await self.stack.pluggy.undelivered():
            return True
        on_wire = any(item.wire.in_flight for item in self.items)
        return on_wire or await self.stack.spooled() > 0

    def count(self, name: str, times: int = 1) -> None:
        """Something has really happened."""
        if times:
            self.stack.counts[name] += times

    def _resume_all(self) -> None:
        for worker in self.stopped:
            self.stack.worker_group.resume(worker)
        self.stopped.clear()

    async def _take(self, step: Step) -> None:
        item = self.items[step.get("item", 0)]
        self.played.append((time.monotonic(), step))
        do = step["do"]
        if not item.id and do not in BEFORE_CONNECT:
            await self._connect(item, step)
        if do in STACK_WIDE:
            self.stack.note(self.scenario.seed, step)
        await DOES[do](self, item, step)

    async def _connect(self, item: PlayedItem, step: Step) -> None:
        if item.id:
            return
        item.faults += [
            {"kind": "lag", "match": match, "times": times}
            for match, times in item.options.get("lag", {}).items()
        ]
        made = await self.stack.pluggy.new_item(**item.options)
        item.id = made["id"]
        self.stack.postman.claim(item.id, item.wire)
        self.count("item connected")
        self.count("item of MeuPluggy", item.options.get("connectorId") == MEU_PLUGGY)

    async def _collect(self, item: PlayedItem, step: Step) -> None:
        if item.deleted:
            return
        deletes = any(step["order"].get(part) for part in DELETING)
        await self._end_lag_of_item(item, {LAGGING_ROWS} if deletes else set())
        order = await self._sparing(item, _possible(item, step["order"]))
        if LAGGING_ITEM in order.get("lag", {}) and not await self._is_all_read(item):
            # A time that is new to us, although of an earlier collection, would be believed.
            order = {name: wish for name, wish in order.items() if name != "lag"}
        item.faults += [
            {"kind": "lag", "match": match, "times": times}
            for match, times in order.get("lag", {}).items()
        ]
        done = await self.stack.pluggy.collect(item.id, order)
        for name, times in ingredients.of_collection(order, done).items():
            self.count(name, times)

    async def _end_lag_of_item(self, item: PlayedItem, more: Collection[str] = ()) -> None:
        """No collection is hidden by the lag of one before it.

        An item that was read within the hour and does not show a newer collection is believed, and
        so are the balances of accounts that are all listed, and rows that are deleted next, shown
        once more by a list that is older than that (more: the lists of which this is to be ended).
        """
        late = {fault["match"] for fault in item.faults if fault["kind"] == "lag"}
        if late & {*BELIEVED_WHEN_LATE, *more}:
            await self._clear(item, {})

    async def _is_all_read(self, item: PlayedItem) -> bool:
        """Whether the item's latest collection is stored, and nothing is left to do for it."""
        shown = (await self.stack.pluggy.truth(item.id)).item
        stored = await self.stack.db.fetchval(LAST_COLLECTION, item.id)
        is_stored = shown is not None and shown["lastUpdatedAt"] == stored
        return is_stored and await is_settled(self.stack, item.id)

    async def _sparing(self, item: PlayedItem, order: dict[str, Any]) -> dict[str, Any]:
        """Without deletions of a product's last rows."""
        products = order.get("products", {})
        if not any("deleted" in counts for counts in products.values()):
            return order
        truth = await self.stack.pluggy.truth(item.id)
        few = {name for name in products if not truth.has_others(name)}
        return order | {"products": {n: c for n, c in products.items() if n not in few}}

    async def _close(self, item: PlayedItem, step: Step) -> None:
        if item.deleted:
            return
        truth = await self.stack.pluggy.truth(item.id)
        ids = sorted(map(str, truth.rows[step["what"]]))
        if len(ids) < 2 or truth.withheld:
            return
        closed = ids[step["nth"] % len(ids)]
        await self.stack.pluggy.collect(item.id, {"close": [closed], "created": 1})
        self.count(f"{step['what'].removesuffix('s')} closed")

    async def _delete(self, item: PlayedItem, step: Step) -> None:
        """The company deletes the item; not one that is to end with its connector."""
        if not item.deleted and item.options.get("connectorId") != WITHDRAWN:
            await self.stack.pluggy.as_client("DELETE", f"/items/{item.id}")
            item.deleted = True
            self.count("item deleted")

    async def _reconnect(self, item: PlayedItem, step: Step) -> None:
        """Ordered now and done last, when what is stored equals what Pluggy has."""
        if item.options.get("connectorId") == WITHDRAWN:
            item.again = {name: step[name] for name in ("historyDays", "reworded")}

    async def _update(self, item: PlayedItem, step: Step) -> None:
        """The client asks for a run; Pluggy refuses where a person has to act first."""
        if item.deleted:
            return
        shown = (await self.stack.pluggy.truth(item.id)).item
        assert shown is not None
        await self._end_lag_of_item(item)
        if shown["status"] in ("UPDATED", "OUTDATED") and shown["connector"]["id"] != MEU_PLUGGY:
            await self.stack.pluggy.as_client("PATCH", f"/items/{item.id}", {})
            self.count("client's update")

    async def _fault(self, item: PlayedItem, step: Step) -> None:
        fault = step["fault"] | {"item": item.id}
        item.faults.append(fault)
        await self.stack.pluggy.add_fault(fault)

    async def _lists(self, item: PlayedItem, step: Step) -> None:
        """Counted if a list of the item has more rows than a page."""
        paging: dict[str, Any] = {k: step[k] for k in ("model", "pageSize") if k in step}
        await self.stack.pluggy.page_lists(item.id, paging)
        if step["model"] == "cursor" and not item.deleted:
            truth = await self.stack.pluggy.truth(item.id)
            self.count("lists by cursor", len(truth.rows["accounts"]) > step["pageSize"])

    async def _clear(self, item: PlayedItem, step: Step) -> None:
        """Take away what has not struck yet, and count what has."""
        left = Counter[tuple[str, str]]()
        for fault in await self.stack.pluggy.clear_faults(item.id):
            left[ingredients.of_fault(fault), fault["match"]] += fault["times"] - fault["hits"]
        for fault in item.faults:
            name, match = ingredients.of_fault(fault), fault["match"]
            unhit = min(fault["times"], left[name, match])
            left[name, match] -= unhit
            hits = fault["times"] - unhit
            self.count(name, hits)
            item.lied |= hits > 0 and ingredients.lies(fault)
            item.lagged |= hits > 0 and fault["kind"] == "lag"
            item.odd |= hits > 0 and ingredients.is_odd(fault)
            item.moved |= hits > 0 and fault["kind"] == "redate"
        item.faults.clear()

    async def _lose(self, item: PlayedItem, step: Step) -> None:
        item.wire.lose += step["count"]

    async def _twice(self, item: PlayedItem, step: Step) -> None:
        item.wire.twice += step["count"]

    async def _rename(self, item: PlayedItem, step: Step) -> None:
        setattr(item.wire, step["kind"], getattr(item.wire, step["kind"]) + step["count"])

    async def _hold(self, item: PlayedItem, step: Step) -> None:
        item.wire.holding = True

    async def _release(self, item: PlayedItem, step: Step) -> None:
        await self.delivered()
        self.stack.postman.release(item.wire, step.get("order"))

    async def _kill(self, item: PlayedItem, step: Step) -> None:
        self.count("worker killed", await self.stack.worker_group.kill(step["nth"]))

    async def _deploy(self, item: PlayedItem, step: Step) -> None:
        done = await self.stack.worker_group.kill(step["nth"], signal.SIGTERM)
        self.count("worker deployed", done)

    async def _resize(self, item: PlayedItem, step: Step) -> None:
        await self.stack.worker_group.resize()
        self.count("more or fewer workers")

    async def _stop(self, item: PlayedItem, step: Step) -> None:
        worker = self.stack.worker_group.stop(step["nth"])
        if worker is not None:
            self.stopped.append(worker)
            self.count("worker stopped")

    async def _resume(self, item: PlayedItem, step: Step) -> None:
        self._resume_all()

    async def _flush(self, item: PlayedItem, step: Step) -> None:
        self.count("redis emptied", await self.stack.flush_redis())

    async def _postgres_away(self, item: PlayedItem, step: Step) -> None:
        self.count("postgres away", await self.stack.postgres_away(step["seconds"]))

    async def _read_only(self, item: PlayedItem, step: Step) -> None:
        done = await self.stack.read_only(step["seconds"], killed=step["killed"])
        self.count(f"read-only sessions {'killed' if step['killed'] else 'left'}", done)

    async def _step_back(self, item: PlayedItem, step: Step) -> None:
        await shift(self.stack, item.id, timedelta(seconds=-step["seconds"]))
        self.count("clock of Postgres back")

    async def _revoke_keys(self, item: PlayedItem, step: Step) -> None:
        await self.stack.pluggy.json("DELETE", "/_simulator/keys")
        self.count("keys revoked")

    async def _shift(self, item: PlayedItem, step: Step) -> None:
        await shift(self.stack, item.id, timedelta(seconds=step["seconds"]))

    async def _clock(self, item: PlayedItem, step: Step) -> None:
        await self.stack.pluggy.advance(step["seconds"])
        self.count("clock")

    async def _verify(self, item: PlayedItem, step: Step) -> None:
        await order(self.stack, "sync/verify", item.id)
        self.count("verify")

    async def _register(self, item: PlayedItem, step: Step) -> None:
        await self.stack.postman.register(item.id)
        self.count("registration")

    async def _items_list(self, item: PlayedItem, step: Step) -> None:
        """The daily comparison with Pluggy's list of items is due; a worker does it soon."""
        self.listed_at = await self.stack.db.fetchval(LIST_DUE)

    async def _balance(self, item: PlayedItem, step: Step) -> None:
        """The company asks for a balance, which changes the account; then mostly for its row.

        Without that, or if an older list is shown, the account differs until the weekly verify.
        """
        if item.deleted:
            return
        truth = await self.stack.pluggy.truth(item.id)
        accounts = sorted(map(str, truth.rows["accounts"]))
        if not accounts or truth.withheld or not truth.is_open_finance:
            return
        account_id = accounts[step["nth"] % len(accounts)]
        try:
            await self.stack.pluggy.as_client("GET", f"/accounts/{account_id}/balance")
        except BALANCE_UNREAD:
            item.moved = True  # a fault has struck, before or after the account changed
            return
        self.count("balance read")
        lags = any(f["kind"] == "lag" and f["match"] == "GET /accounts" for f in item.faults)
        item.moved |= lags or not step["refreshes"]
        if step["refreshes"]:
            await self.stack.postman.register(item.id, refresh=["accounts"])

    async def _pause(self, item: PlayedItem, step: Step) -> None:
        await asyncio.sleep(step["ms"] / 1000)

    async def _rest(self, item: PlayedItem, step: Step) -> None:
        await self._delivered_within(step["ms"] / 1000)
        await pause_until_idle(self.stack, item.id, timeout_s=step["ms"] / 1000)

    async def accept_deletions(self, item: PlayedItem) -> None:
        """A person accepts the deletions that wait."""
        for decided in await self._accept(uuid.UUID(item.id)):
            self.count("deletions accepted", bool(decided.transaction_ids))

    async def _accept(self, item_id: uuid.UUID) -> list[Decided]:
        """Tried again while a worker that stands still within a page keeps others out."""
        deadline = time.monotonic() + HANG_S
        while True:
            try:
                return await accept_deletions(self.stack.db, item_id=item_id)
            except asyncpg.LockNotAvailableError:
                self.count("(deletions locked by a page)")
                if time.monotonic() > deadline:
                    raise


def _possible(item: PlayedItem, order: dict[str, Any]) -> dict[str, Any]:
    """The order without what only Open Finance has, of another item."""
    if item.options.get("connectorId") == OPEN_FINANCE:
        return order
    return {name: wish for name, wish in order.items() if name != "pendingAuthorization"}


Does = Callable[[Player, PlayedItem, Step], Awaitable[None]]
DOES: Final[dict[str, Does]] = {
    "connect": Player._connect,
    "collect": Player._collect,
    "close": Player._close,
    "delete": Player._delete,
    "reconnect": Player._reconnect,
    "update": Player._update,
    "fault": Player._fault,
    "clear": Player._clear,
    "lists": Player._lists,
    "lose": Player._lose,
    "twice": Player._twice,
    "rename": Player._rename,
    "hold": Player._hold,
    "release": Player._release,
    "kill": Player._kill,
    "deploy": Player._deploy,
    "resize": Player._resize,
    "stop": Player._stop,
    "resume": Player._resume,
    "flush": Player._flush,
    "postgres_away": Player._postgres_away,
    "read_only": Player._read_only,
    "step_back": Player._step_back,
    "revoke_keys": Player._revoke_keys,
    "shift": Player._shift,
    "clock": Player._clock,
    "verify": Player._verify,
    "accept": lambda player, item, _: player.accept_deletions(item),
    "register": Player._register,
    "balance": Player._balance,
    "items_list": Player._items_list,
    "pause": Player._pause,
    "rest": Player._rest,
}
