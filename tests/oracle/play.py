"""Plays scenarios on the running stack, brings each to rest, and compares."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NoReturn

from ops.compare_columns import MIRRORED, Mirrored
from ops.demo_children import Child
from tests.oracle.comparison import Difference, Truth, differences
from tests.oracle.postman import Wire
from tests.oracle.rest import (
    describe,
    let_a_day_pass,
    let_a_week_pass,
    order,
    pause_until_idle,
    rest,
    shift,
)
from tests.oracle.scenario import Scenario, Step
from tests.oracle.stack import OracleStack
from worker.flags import accept_flags
from worker.queries import QUERIES

SHOWN: Final = 12
LYING: Final = frozenset({"novelty", "wrong_type", "nul", "date_shape"})
"""Faults that make Pluggy's answers wrong: only a later read can tell."""
STACK_WIDE: Final = frozenset({"kill", "deploy", "stop", "resume", "flush", "revoke_keys", "clock"})
UNTOLD: Final = frozenset({"investment_transactions"})
"""Changes without a webhook and without a date: only a verify finds them."""
STALE: Final = """
SELECT product, account_id, state, reason FROM pluggy_ops.freshness
WHERE item_id = $1 AND state NOT IN ('fresh', 'deleted')
  AND item_status NOT IN ('LOGIN_ERROR', 'OUTDATED')
"""
DEAD: Final = """
SELECT DISTINCT reason FROM pluggy_sync.webhook_events WHERE item_id = $1 AND state = 'dead'
"""
WRITTEN: Final = """
SELECT coalesce(sum(inserted + changed + deleted), 0) FROM pluggy_sync.runs WHERE item_id = $1
"""
Tables = Mapping[str, Mirrored]
RECENT_FOR: Final = timedelta(days=13)
"""Fourteen days are read again every day; the margin is for where a day begins."""
RECENT: Final[Tables] = {"transactions": MIRRORED["transactions"]}


class Diverged(AssertionError):
    """Postgres is not what Pluggy is, or a promise about the work is broken."""


@dataclass(slots=True)
class PlayedItem:
    """An item of a scenario: its wire, its faults, and whether anybody lied about it."""

    options: dict[str, Any]
    wire: Wire = field(default_factory=Wire)
    id: str = ""
    faults: list[dict[str, Any]] = field(default_factory=list)
    lied: bool = False
    moved: bool = False
    deleted: bool = False


@dataclass(slots=True)
class Player:
    """Plays one scenario."""

    stack: OracleStack
    scenario: Scenario
    items: list[PlayedItem] = field(default_factory=list)
    stopped: list[Child] = field(default_factory=list)
    played: list[tuple[float, Step]] = field(default_factory=list)

    async def play(self) -> None:
        """Raises Diverged, NeverRests."""
        self.items = [PlayedItem(options) for options in self.scenario.items]
        try:
            for step in self.scenario.steps:
                await self._take(step)
            for item in self.items:
                await self._finish(item)
        finally:
            for worker in self.stopped:
                self.stack.crew.resume(worker)
            for item in self.items:
                item.wire.closed = True
                await self.stack.pluggy.clear_faults(item.id)
                if item.id and not item.deleted:
                    await self.stack.pluggy.forget(item.id)

    async def _take(self, step: Step) -> None:
        item = self.items[step.get("item", 0)]
        self.played.append((time.monotonic(), step))
        do = step["do"]
        if not item.id and do not in ("connect", "hold", "lose", "twice", "release", "pause"):
            await self._connect(item, step)
        if do in STACK_WIDE:
            self.stack.note(self.scenario.seed, step)
        await DOES[do](self, item, step)

    async def _connect(self, item: PlayedItem, step: Step) -> None:
        if item.id:
            return
        made = await self.stack.pluggy.new_item(**item.options)
        item.id = made["id"]
        self.stack.postman.claim(item.id, item.wire)
        self.count("item connected")

    def count(self, name: str, times: int = 1) -> None:
        if times:
            self.stack.counts[name] += times

    async def _collect(self, item: PlayedItem, step: Step) -> None:
        if item.deleted:
            return
        order = await self._sparing(item, step["order"])
        done = await self.stack.pluggy.collect(item.id, order)
        for name, times in _happened(order, done).items():
            self.count(name, times)

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
        if not item.deleted:
            await self.stack.pluggy.as_client("DELETE", f"/items/{item.id}")
            item.deleted = True
            self.count("item deleted")

    async def _update(self, item: PlayedItem, step: Step) -> None:
        """The client asks for a run; Pluggy refuses where a person has to act first."""
        if item.deleted:
            return
        shown = (await self.stack.pluggy.truth(item.id)).item
        assert shown is not None
        if shown["status"] in ("UPDATED", "OUTDATED") and shown["connector"]["id"] != 200:
            await self.stack.pluggy.as_client("PATCH", f"/items/{item.id}", {})
            self.count("client's update")

    async def _fault(self, item: PlayedItem, step: Step) -> None:
        fault = step["fault"] | {"item": item.id}
        item.faults.append(fault)
        await self.stack.pluggy.add_fault(fault)

    async def _clear(self, item: PlayedItem, step: Step) -> None:
        """Take away what has not struck yet, and count what has."""
        left = Counter[tuple[str, str]]()
        for fault in await self.stack.pluggy.clear_faults(item.id):
            left[_named(fault), fault["match"]] += fault["times"] - fault["hits"]
        for fault in item.faults:
            name, match = _named(fault), fault["match"]
            unhit = min(fault["times"], left[name, match])
            left[name, match] -= unhit
            hits = fault["times"] - unhit
            self.count(f"fault {name}", hits)
            item.lied |= hits > 0 and _lies(fault)
            item.moved |= hits > 0 and name == "redate"
        item.faults.clear()

    async def _lose(self, item: PlayedItem, step: Step) -> None:
        item.wire.lose += step["count"]

    async def _twice(self, item: PlayedItem, step: Step) -> None:
        item.wire.twice += step["count"]

    async def _hold(self, item: PlayedItem, step: Step) -> None:
        item.wire.holding = True

    async def _release(self, item: PlayedItem, step: Step) -> None:
        await self._delivered()
        self.stack.postman.release(item.wire, step.get("order"))

    async def _kill(self, item: PlayedItem, step: Step) -> None:
        self.count("worker killed", await self.stack.crew.kill(step["nth"]))

    async def _deploy(self, item: PlayedItem, step: Step) -> None:
        done = await self.stack.crew.kill(step["nth"], signal.SIGTERM)
        self.count("worker deployed", done)

    async def _stop(self, item: PlayedItem, step: Step) -> None:
        worker = self.stack.crew.stop(step["nth"])
        if worker is not None:
            self.stopped.append(worker)
            self.count("worker stopped")

    async def _resume(self, item: PlayedItem, step: Step) -> None:
        for worker in self.stopped:
            self.stack.crew.resume(worker)
        self.stopped.clear()

    async def _flush(self, item: PlayedItem, step: Step) -> None:
        await self.stack.flush_redis()
        self.count("redis emptied")

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

    async def _pause(self, item: PlayedItem, step: Step) -> None:
        await asyncio.sleep(step["ms"] / 1000)

    async def _rest(self, item: PlayedItem, step: Step) -> None:
        await self._delivered(within_s=step["ms"] / 1000)
        await pause_until_idle(self.stack, item.id, within_s=step["ms"] / 1000)

    async def _delivered(self, within_s: float = 30.0) -> None:
        """Wait until the simulator and the wires have nothing on their way."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            on_wire = any(item.wire.in_flight for item in self.items)
            if not on_wire and not await self.stack.pluggy.undelivered():
                return
            await asyncio.sleep(0.02)

    async def _finish(self, item: PlayedItem) -> None:
        """Everything that disturbs is over; what waits may wait no longer; then compare."""
        await self._settle_down(item)
        truth = await self._completed(item)
        if truth.withheld:
            truth = await self._outlast_withdrawal(item, truth)
        await rest(self.stack, item.id)
        if not (item.wire.lost or item.lied):
            untold = UNTOLD | ({"accounts"} if item.moved else set())
            tables = {n: t for n, t in MIRRORED.items() if n not in untold}
            await self._compare(item, truth, "as webhooks told", tables)
            self.count("equal without nets")
        await self._mend(item)
        if item.deleted and any(e["event"] == "item/deleted" for e in item.wire.lost):
            await self._deletion_arrives_late(item)
        await self._compare_after_nets(item, truth)
        await self._accept(item, {})
        await self._compare(item, truth, "after flags were accepted", MIRRORED, flags=False)
        await self._check_work(item, truth)

    async def _compare_after_nets(self, item: PlayedItem, truth: Truth) -> None:
        """What was equal already is only looked at: a verify writes nothing then."""
        equal = not await differences(self.stack.db, item.id, truth, flags=False)
        before = await self.stack.db.fetchval(WRITTEN, item.id)
        await let_a_day_pass(self.stack, item.id)
        await self._compare_recent(item, truth)
        await let_a_week_pass(self.stack, item.id)
        await self._compare(item, truth, "after the nets", MIRRORED)
        if equal and await self.stack.db.fetchval(WRITTEN, item.id) > before:
            raise Diverged(
                f"a verify of what was equal wrote rows, item {item.id}\n"
                + await describe(self.stack, item.id)
            )

    async def _compare_recent(self, item: PlayedItem, truth: Truth) -> None:
        """A day heals what webhooks lost of recent rows, but for deletions."""
        found = await differences(self.stack.db, item.id, truth, tables=RECENT)
        recent = truth.transactions_since((await self.stack.pluggy.now() - RECENT_FOR).date())
        unhealed = [d for d in found if d.kind != "extra" and uuid.UUID(d.row_id) in recent]
        if unhealed:
            await self._diverge(item, unhealed, "after a day")

    async def _mend(self, item: PlayedItem) -> None:
        """What a person does: requeue what Pluggy refused, register an item nobody heard of."""
        dead = await self.stack.db.fetch(
            QUERIES["requeue_dead_letters"], None, None, uuid.UUID(item.id)
        )
        self.count("dead letter requeued", len(dead))
        known = await self.stack.db.fetchval(
            "SELECT EXISTS (SELECT FROM pluggy_sync.item_sync WHERE item_id = $1)", item.id
        )
        if not known:
            await self.stack.postman.register(item.id)
        await rest(self.stack, item.id)

    async def _accept(self, item: PlayedItem, step: Step) -> None:
        """A person has the flagged rows buried."""
        for decided in await accept_flags(self.stack.db, item_id=uuid.UUID(item.id)):
            self.count("flags accepted", bool(decided.transaction_ids))

    async def _settle_down(self, item: PlayedItem) -> None:
        for worker in self.stopped:
            self.stack.crew.resume(worker)
        self.stopped.clear()
        if not item.id:
            await self._connect(item, {})
        await self._clear(item, {})
        item.wire.lose = item.wire.twice = 0
        await self._delivered()
        self.stack.postman.release(item.wire)
        await self._delivered()

    async def _completed(self, item: PlayedItem) -> Truth:
        """A run that is still under way ends."""
        truth = await self.stack.pluggy.truth(item.id)
        if truth.in_progress:
            await self.stack.pluggy.collect(item.id, {"created": 1})
            await self._delivered()
            truth = await self.stack.pluggy.truth(item.id)
        return truth

    async def _deletion_arrives_late(self, item: PlayedItem) -> None:
        """Without its webhook a 404 buries nothing, however long it lasts; with it everything."""
        await let_a_day_pass(self.stack, item.id)
        buried = await self.stack.db.fetchval(
            "SELECT count(*) FROM pluggy.items WHERE id = $1 AND deleted_at IS NOT NULL", item.id
        )
        if buried:
            raise Diverged("an item was buried without item/deleted")
        [told] = [e for e in item.wire.lost if e["event"] == "item/deleted"]
        self.stack.postman.deliver(item.wire, told)
        await self._delivered()
        await rest(self.stack, item.id)

    async def _outlast_withdrawal(self, item: PlayedItem, truth: Truth) -> Truth:
        """Nothing can be read, so nothing may be lost; with a new consent everything is again."""
        hidden = {n: t for n, t in MIRRORED.items() if n not in ("items", "consents")}
        await rest(self.stack, item.id, most_shifts=3)
        await self._compare(item, truth, "without consent", hidden)
        await order(self.stack, "sync/verify", item.id)
        await rest(self.stack, item.id, most_shifts=3)
        await self._compare(item, truth, "after a verify without consent", MIRRORED)
        await self.stack.pluggy.collect(item.id, {"consent": "renewed", "created": 1})
        self.count("consent renewed")
        await self._delivered()
        return await self.stack.pluggy.truth(item.id)

    async def _compare(
        self, item: PlayedItem, truth: Truth, when: str, tables: Tables, *, flags: bool = True
    ) -> None:
        found = await differences(self.stack.db, item.id, truth, tables=tables, flags=flags)
        if found:
            await self._diverge(item, found, when)

    async def _diverge(self, item: PlayedItem, found: list[Difference], when: str) -> NoReturn:
        told = "\n".join(map(str, found[:SHOWN]))
        raise Diverged(
            f"{len(found)} rows differ {when}, item {item.id}\n{told}\n"
            f"lost: {[e['event'] for e in item.wire.lost]}\n" + await describe(self.stack, item.id)
        )

    async def _check_work(self, item: PlayedItem, truth: Truth) -> None:
        """Nothing acknowledged is lost, nothing is left open, and freshness is right."""
        problems = self.stack.crew.complaints(item.id)
        stored = await self.stack.db.fetch(
            "SELECT event_id FROM pluggy_sync.webhook_events WHERE item_id = $1", item.id
        )
        problems += [
            f"acknowledged, not stored: {event_id}"
            for event_id in item.wire.accepted - {record["event_id"] for record in stored}
        ]
        open_runs = await self.stack.db.fetch(
            "SELECT id FROM pluggy_sync.runs WHERE item_id = $1 AND finished_at IS NULL", item.id
        )
        problems += [f"run left open: {record['id']}" for record in open_runs]
        if truth.item is not None:
            problems += [f"stale: {dict(r)}" for r in await self.stack.db.fetch(STALE, item.id)]
            rejected = await self.stack.db.fetch(
                "SELECT product, reason FROM pluggy_sync.rejected_rows WHERE item_id = $1", item.id
            )
            problems += [f"rejected: {dict(record)}" for record in rejected]
        for record in await self.stack.db.fetch(DEAD, item.id):
            self.count(f"dead letter {record['reason']}")
        if problems:
            raise Diverged(
                "\n".join([*problems, f"item {item.id}", await describe(self.stack, item.id)])
            )


Does = Callable[[Player, PlayedItem, Step], Awaitable[None]]
DOES: Final[dict[str, Does]] = {
    "connect": Player._connect,
    "collect": Player._collect,
    "close": Player._close,
    "delete": Player._delete,
    "update": Player._update,
    "fault": Player._fault,
    "clear": Player._clear,
    "lose": Player._lose,
    "twice": Player._twice,
    "hold": Player._hold,
    "release": Player._release,
    "kill": Player._kill,
    "deploy": Player._deploy,
    "stop": Player._stop,
    "resume": Player._resume,
    "flush": Player._flush,
    "revoke_keys": Player._revoke_keys,
    "shift": Player._shift,
    "clock": Player._clock,
    "verify": Player._verify,
    "accept": Player._accept,
    "register": Player._register,
    "pause": Player._pause,
    "rest": Player._rest,
}

STATUS_NAMES: Final = {429: "429", 401: "401", 400: "refused"}


def _named(fault: dict[str, Any]) -> str:
    """The ingredient that a fault is."""
    kind = str(fault["kind"])
    return STATUS_NAMES.get(fault["status"], "status") if kind == "status" else kind


def _lies(fault: dict[str, Any]) -> bool:
    """Whether what it makes Pluggy say cannot be seen through, or is refused for good."""
    unseen = fault["kind"] == "empty" and not fault["match"].endswith("/v2/transactions")
    return fault["kind"] in LYING or unseen or fault.get("status") == 400


def _happened(order: dict[str, Any], done: dict[str, Any]) -> Counter[str]:
    """Which ingredients a collection really brought."""
    found = Counter[str]()
    rows = done["changes"]["accounts"].values()
    for name in ("created", "updated", "deleted"):
        found[name] += sum(bool(lists[name]) for lists in rows)
    for name in ("late", "scheduled", "twins", "settled", "restated", "returned"):
        found[name] += bool(order.get(name)) and bool(rows)
    found["deleted by the dozen"] += sum(len(lists["deleted"]) > 20 for lists in rows)
    found["calendar"] += bool(order.get("calendar"))
    for product, lists in done["changes"]["products"].items():
        for change, ids in lists.items():
            found[f"{product} {change}"] += bool(ids)
    item = done["item"]
    found["partial"] += item["executionStatus"] == "PARTIAL_SUCCESS"
    found["warned"] += bool(order.get("warned"))
    found["outdated"] += item["status"] == "OUTDATED"
    found["login error"] += order.get("status") == "LOGIN_ERROR"
    found["run that waits"] += item["status"] in (
        "UPDATING",
        "WAITING_USER_INPUT",
        "WAITING_USER_ACTION",
    )
    if (consent := order.get("consent")) is not None:
        found[f"consent {consent}"] += 1
    return found
