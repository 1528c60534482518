"""The duel: the same webhooks also reach a handler of an afternoon; then ten bad seconds.

Both mirrors are judged by one rule over all transactions: the simulator's truth. What the bank
withholds while a consent is revoked still counts as true.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from rich.console import Console

from embedded.ports import free_port
from ops.cli.tables import show_rows
from ops.compare.columns import Connection
from ops.compare.truth import SimulatorTruth
from ops.demo.afternoon import AGENT
from ops.demo.figures import Score
from ops.demo.processes import Child
from ops.demo.simulator import SimulatorControl, usual_changes
from ops.demo.stage import DemoFailed, Service, Stage
from worker.infra.postgres import close_pool, open_pool
from worker.maintenance.reconciliation import order_verify

AFTERNOON: Final = ("ops.demo.afternoon",)
OURS, HANDLER = "pluggy-sync", "the handler"
MIN_ITEMS: Final = 5
"""One for each thing that goes wrong."""
REVOKED: Final = 3
"""Which item's consent is revoked."""
LATE_S: Final = 3.0
SLOW_S: Final = 0.5
END_TIMEOUT_S: Final = 600.0
POLL_INTERVAL_S: Final = 0.2
LOST: Final = {"created": 5, "updated": 3, "restated": 2}
ROWS: Final = {
    OURS: "SELECT id, date, description, amount, status, category FROM pluggy_live.transactions",
    HANDLER: "SELECT id, date, description, amount, status, category FROM afternoon.transactions",
}
STORED: Final = {
    OURS: """
        SELECT id AS number, extract(epoch FROM visible_at - received_at) * 1000 AS ms
        FROM pluggy_sync.webhook_events
        WHERE event NOT LIKE 'sync/%' AND visible_at IS NOT NULL""",
    HANDLER: """
        SELECT number, ms
        FROM (SELECT row_number() OVER () AS number, rows, ms FROM afternoon.handled) AS h
        WHERE rows > 0""",
}
"""The webhooks that have changed rows, in the order of their numbers."""
LAST: Final = {
    OURS: "SELECT max(id) FROM pluggy_sync.webhook_events",
    HANDLER: "SELECT count(*) FROM afternoon.handled",
}
MS: Final = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE number <= $2), max(ms)
FROM ({stored}) AS s WHERE number > $1
"""
OPEN: Final = """
SELECT EXISTS (
    SELECT FROM pluggy_sync.webhook_events e
    WHERE e.state IN ('pending', 'walking') AND NOT (e.item_id = $1 AND EXISTS (
        SELECT FROM pluggy_sync.product_sync p
        WHERE p.item_id = $1 AND p.deferred_since IS NOT NULL)))
"""
"""Whether ours has something to do. Lists that a bank withholds are asked for ever more seldom,
and their event stays open."""

Row = tuple[datetime, str | None, Decimal, str | None, str | None]


@dataclass(slots=True)
class Duel:
    """Both mirrors of the demo's items, over one database."""

    service: Service
    conn: Connection
    handler: Child
    port: int
    before: dict[str, frozenset[uuid.UUID]] = field(default_factory=dict)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Numbers of the last webhooks of each, before the first bad second and before the SIGKILL."""
    lost_by_handler: int = 0
    """Webhooks that it had answered and not handled when it was killed."""
    requests_of_check: int = 0

    @property
    def control(self) -> SimulatorControl:
        return self.service.control

    @property
    def stage(self) -> Stage:
        return self.service.stage

    async def ten_bad_seconds(self, items: Sequence[str]) -> None:
        """A lost, a doubled and a late webhook, a restated amount, a SIGKILL, a revoked consent."""
        usual = usual_changes(self.stage.options.transactions)
        lost, doubled, late, revoked, killed = items[:MIN_ITEMS]
        await self._with_webhooks({"drop": 1.0}, lost, LOST)
        await self._with_webhooks({"duplicate": 1.0}, doubled, usual)
        await self._with_webhooks({"delay": LATE_S}, late, usual)
        await self.control.collect(revoked, {"consent": "revoked"})
        # The SIGKILL is to strike one collection in each of them.
        await self.until_handled()
        await self._until_ours_is_done(uuid.UUID(revoked))
        before = await self._last_numbers()
        self.counted = {name: (self.counted[name][0], last) for name, last in before.items()}
        await self._kill_both_while_they_work(killed, usual)

    async def begin(self) -> None:
        """From here on requests and times count."""
        await self.until_handled()
        for name, rows in ROWS.items():
            self.before[name] = frozenset(row["id"] for row in await self.conn.fetch(rows))
        self.counted = {name: (last, last) for name, last in (await self._last_numbers()).items()}
        await self.control.reset_requests()

    async def _last_numbers(self) -> dict[str, int]:
        return {name: await self.conn.fetchval(last) for name, last in LAST.items()}

    async def recover(self, items: Sequence[str]) -> None:
        """Both end what they have begun; then ours makes its weekly check, moved forward."""
        revoked = uuid.UUID(items[REVOKED])
        await self._until_ours_is_done(revoked)
        await self.until_handled()
        before = (await self._requests())[OURS]
        db = await open_pool(self.stage.database_url, max_size=1, statement_cache=0)
        try:
            await order_verify(db, [uuid.UUID(i) for i in items if uuid.UUID(i) != revoked])
        finally:
            await close_pool(db)
        await self._until_ours_is_done(revoked)
        self.requests_of_check = (await self._requests())[OURS] - before

    async def scores(self, items: Iterable[str]) -> dict[str, Score]:
        """The state of both, by one rule."""
        truth = SimulatorTruth(self.control.session, self.control.base_url)
        true: dict[uuid.UUID, Row] = {}
        for item in items:
            async for row in truth.rows(item):
                if row.entity == "transactions":
                    true[uuid.UUID(row.fields["id"])] = _true_row(row.fields)
        requests = await self._requests()
        return {name: await self._score(name, true, requests[name]) for name in ROWS}

    async def _requests(self) -> dict[str, int]:
        agents = await self.control.requests_by_agent()
        return {HANDLER: agents[AGENT], OURS: sum(agents.values()) - agents[AGENT]}

    async def until_handled(self) -> None:
        """Wait until every webhook is delivered, and the handler done with all that it took."""
        while await self.control.undelivered() or await self._at_work():  # noqa: ASYNC110 - processes
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _at_work(self) -> int:
        url = f"http://127.0.0.1:{self.port}/at-work"
        async with self.control.session.get(url) as answer:
            return int(await answer.text())

    async def _with_webhooks(self, fault: dict[str, Any], item: str, changes: Any) -> None:
        await self.control.json("POST", "/_simulator/webhooks", fault)
        await self.control.collect(item, changes)
        await self.control.json("POST", "/_simulator/webhooks", {})

    async def _kill_both_while_they_work(self, item: str, changes: Any) -> None:
        """All webhooks are taken, and Pluggy is slow, when workers and handler are killed."""
        slow = {"match": "GET /*", "kind": "slow", "rate": 1.0, "seconds": SLOW_S}
        await self.control.json("POST", "/_simulator/faults", slow)
        await self.control.collect(item, changes)
        await self._until_delivered()
        workers = [c for c in self.stage.children.started if c.name.startswith("worker-")]
        self.lost_by_handler = await self._at_work()
        self.stage.children.kill(self.handler, *workers)
        await self.control.call("DELETE", "/_simulator/faults")
        self.service.start_workers()
        self.handler = await start_handler(self.service, self.port)

    async def _until_delivered(self) -> None:
        while await self.control.undelivered():  # noqa: ASYNC110 - another process is polled
            await asyncio.sleep(POLL_INTERVAL_S / 10)

    async def _until_ours_is_done(self, revoked: uuid.UUID) -> None:
        """Every event is settled, but for the item whose data the bank withholds."""
        deadline = asyncio.get_running_loop().time() + END_TIMEOUT_S
        while await self.conn.fetchval(OPEN, revoked):
            self.stage.children.check()
            if asyncio.get_running_loop().time() > deadline:
                raise DemoFailed(f"waited {END_TIMEOUT_S:.0f} s for the end of the duel")
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _score(self, name: str, true: dict[uuid.UUID, Row], requests: int) -> Score:
        live = {row["id"]: tuple(row)[1:] for row in await self.conn.fetch(ROWS[name])}
        absent = true.keys() - live.keys()
        wrongly_deleted = len(absent & self.before[name])
        [(median, longest)] = await self.conn.fetch(
            MS.format(stored=STORED[name]), *self.counted[name]
        )
        never = name == HANDLER and self.lost_by_handler > 0
        return Score(
            missing=len(absent) - wrongly_deleted,
            doubled=len(live.keys() - true.keys()),
            stale=sum(live[row_id] != true[row_id] for row_id in true.keys() & live.keys()),
            wrongly_deleted=wrongly_deleted,
            api_requests=requests,
            api_requests_of_check=self.requests_of_check if name == OURS else 0,
            ms_to_visible=_ms(median),
            longest_ms_to_visible=None if never else _ms(longest),
        )


async def begin_duel(service: Service, conn: Connection) -> Duel:
    """Start the handler and have every webhook delivered to it too. Raises ChildEnded."""
    port = free_port()
    handler = await start_handler(service, port)
    await service.control.subscribe(
        f"http://127.0.0.1:{port}/webhook", client_id=str(uuid.uuid4()), secret=service.secret
    )
    return Duel(service, conn, handler, port)


async def start_handler(service: Service, port: int) -> Child:
    """The handler of an afternoon, once it listens."""
    settings = service.pluggy | {"DATABASE_URL": service.stage.database_url}
    # A log of its own, because the one before says that it listens.
    name = f"handler-{uuid.uuid4().hex[:4]}"
    handler = service.stage.children.start(
        name, [*AFTERNOON, "--port", str(port)], WEBHOOK_SECRET=service.secret, **settings
    )
    await handler.wait_for_log(
        lambda child: any(f":{port}" in line for line in child.lines()) or None
    )
    return handler


def show_scores(scores: dict[str, Score], console: Console) -> None:
    """Print the table of both, with the bad seconds that each line shows."""
    console.print()
    console.print(
        "Ten bad seconds: a collection whose webhooks are lost, with restated amounts; webhooks"
        " that come twice; webhooks that come late; a revoked consent; a SIGKILL of both in the"
        " middle of a collection, while Pluggy is slow."
    )
    of_check = f"{scores[OURS].api_requests_of_check} of {OURS}'s: its weekly check"
    lines = {
        "missing": ("transactions missing", "lost webhooks, SIGKILL"),
        "doubled": ("transactions doubled", "lost webhooks of restated amounts"),
        "stale": ("transactions stale", "lost webhooks, SIGKILL"),
        "wrongly_deleted": ("transactions wrongly deleted", "revoked consent"),
        "api_requests": ("API requests", of_check),
        "ms_to_visible": ("ms to visible, median", "webhooks before the SIGKILL"),
        "longest_ms_to_visible": ("ms to visible, longest", "SIGKILL"),
    }
    rows = [
        {"": line} | {name: _shown(getattr(score, kind)) for name, score in scores.items()}
        | {"because of": cause}
        for kind, (line, cause) in lines.items()
    ]  # fmt: skip
    show_rows(console, "", rows)
    console.print(
        "ms to visible: from the receipt of a webhook to the commit of its rows. After the SIGKILL"
        f" {OURS} goes on when the lease of the dead worker has lapsed (30 s); what {HANDLER} had"
        " answered and not yet stored is gone. Rows whose webhooks are lost are found by checks of"
        f" {OURS}, of which the demo moves the weekly one forward; {HANDLER} has none."
    )


def _shown(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def _ms(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)


def _true_row(fields: dict[str, Any]) -> Row:
    at = datetime.fromisoformat(fields["date"])
    texts = fields.get("status"), fields.get("category")
    return at, fields.get("description"), Decimal(fields["amount"]), *texts
