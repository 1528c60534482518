"""The life cycle of an item: execution steps, auto-sync, retries, and deletion."""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.bank.daily import daily_order
from simulator.clock import DAY_MS, MINUTE_MS, iso
from simulator.items import outcomes, timeline
from simulator.items.birth import fill
from simulator.items.collection import collect, first_events
from simulator.items.connectors import PRODUCTS
from simulator.items.item import Item, Payload
from simulator.items.orders import Collected, Order, TriggeredBy
from simulator.items.reconnect import Reconnection, reconnect
from simulator.items.sandbox import MFA_TOKEN, Script, script_for
from simulator.options import Options
from simulator.webhooks.events import Event, Links, item_event
from simulator.world import World

# Time a person has to answer, and takes to approve in the bank's app.
ANSWER_WITHIN_MS = 5 * 60_000
_APPROVES_AFTER_MS = 10_000
# Sandbox items that nothing updates are cleared away.
SANDBOX_KEEPS_MS = 30 * DAY_MS


@dataclass(frozen=True)
class Run:
    """One execution: its item, its outcome, and its trigger."""

    item: Item
    script: Script
    triggered_by: TriggeredBy
    renews: bool = False


class Lifecycle:
    """Moves items on the clock's timers; each item has at most one."""

    def __init__(
        self, world: World, options: Options, emit: Callable[[Item, list[Event]], None]
    ) -> None:
        self._world = world
        self._clock = world.clock
        self._options = options
        self._emit = emit
        self.links = Links("http://127.0.0.1")

    async def be_born(
        self,
        item: Item,
        order: Order,
        *,
        transactions: int,
        accounts: int,
        minutes_ago: int = 0,
        again: Reconnection | None = None,
    ) -> None:
        """A first import, all at once; its rows are created so many minutes ago.

        again: of what an earlier item of the person has shown.
        """
        stale = outcomes.reasons(item, order.partial)
        item.unread = set(stale)
        if again is not None:
            reconnect(self._world, item, again, self._clock.now_ms())
        else:
            then_ms = self._clock.now_ms() - minutes_ago * MINUTE_MS
            await fill(
                self._world, item, transactions=transactions, accounts=accounts, now_ms=then_ms
            )
        if item.id not in self._world.items:
            return
        now_ms = self._clock.now_ms()
        warned = outcomes.reasons(item, order.warned)
        outcomes.succeed(item, now_ms=now_ms, stale=stale, warned=warned, code=order.warning_code)
        timeline.note_import(item, now_ms)
        self._emit(item, first_events(item, self.links, triggered_by=order.triggered_by))
        self.plan_auto_sync(item)
        self.plan_expiry(item)

    def collect(self, item: Item, order: Order) -> Collected:
        """One collection, all at once; a run under way is over."""
        done = collect(self._world, item, order, links=self.links)
        self._emit(item, done.events)
        self.plan_auto_sync(item)
        self.plan_expiry(item)
        return done

    def start(self, item: Item, triggered_by: TriggeredBy) -> None:
        """Begin a run: the item is UPDATING from now on."""
        # A person at the screen can give a new consent, the auto-sync cannot.
        renews = item.withheld and triggered_by != "SYNC"
        run = Run(item, script_for(item), triggered_by, renews)
        self._show(item, "UPDATING", "LOGIN_IN_PROGRESS")
        self._next(run, self._log_in)

    def answer_mfa(self, item: Item, token: str, triggered_by: TriggeredBy) -> None:
        wrong = Script("INVALID_CREDENTIALS_MFA")
        script = script_for(item) if token == MFA_TOKEN else wrong
        self._show(item, "UPDATING", "LOGIN_MFA_IN_PROGRESS")
        self._next(Run(item, script, triggered_by), self._logged_in)

    def plan_auto_sync(self, item: Item) -> None:
        """Set the item's timer to its nextAutoSyncAt; it replaces any other."""
        _cancel(item)
        if item.next_auto_sync is not None:
            item.timer = self._clock.call_at(item.next_auto_sync, lambda: self.start(item, "SYNC"))
        elif item.connector["isSandbox"] and not item.in_progress:
            item.timer = self._clock.call_later(SANDBOX_KEEPS_MS, lambda: self.delete(item))

    def plan_expiry(self, item: Item) -> None:
        """An expired consent withholds the data without any webhook."""
        if item.expiry is not None:
            item.expiry.cancel()
        if item.consent_expires is not None and not item.withheld:
            item.expiry = self._clock.call_at(item.consent_expires, lambda: self._expire(item))

    def stop_auto_sync(self, item: Item) -> None:
        """Stop the auto-sync until the next forced update."""
        now_ms = self._clock.now_ms()
        item.auto_sync_disabled, item.next_auto_sync = now_ms, None
        item.touch(now_ms)
        if not item.in_progress:
            self.plan_auto_sync(item)

    def delete(self, item: Item) -> None:
        _cancel(item)
        self._world.delete(item)
        self._emit(item, [item_event("item/deleted", item, None)])

    def _next(
        self, run: Run, action: Callable[[Run], None], *, after_ms: int | None = None
    ) -> None:
        _cancel(run.item)
        delay_ms = round(self._options.step_s * 1000) if after_ms is None else after_ms
        run.item.timer = self._clock.call_later(delay_ms, lambda: action(run))

    def _show(self, item: Item, status: str, execution_status: str) -> None:
        item.status, item.execution_status = status, execution_status
        item.error = item.parameter = item.user_action = None
        item.touch(self._clock.now_ms())

    def _log_in(self, run: Run) -> None:
        if run.item.connector["health"]["status"] == "OFFLINE":
            self._end(run, "SITE_NOT_AVAILABLE")
        elif run.script.mfa and run.script.failure is None:
            self._ask_token(run)
        elif run.renews or (run.script.approval and run.item.last_updated is None):
            self._ask_approval(run)
        else:
            self._logged_in(run)

    def _ask_token(self, run: Run) -> None:
        asked = run.item.connector["credentials"][-1] | {"expiresAt": self._answer_by()}
        self._wait(run, "WAITING_USER_INPUT", parameter=asked)
        self._next(run, lambda run: self._end(run, "USER_INPUT_TIMEOUT"), after_ms=ANSWER_WITHIN_MS)

    def _ask_approval(self, run: Run) -> None:
        action: Payload = {
            "type": "authorize-access",
            "instructions": "Autorize o acesso no aplicativo do seu banco",
            "attributes": {"url": f"{run.item.connector['institutionUrl']}/authorize"},
            "expiresAt": self._answer_by(),
        }
        self._wait(run, "WAITING_USER_ACTION", user_action=action)
        self._next(run, self._logged_in, after_ms=_APPROVES_AFTER_MS)

    def _answer_by(self) -> str:
        return iso(self._clock.now_ms() + ANSWER_WITHIN_MS)

    def _wait(
        self,
        run: Run,
        status: str,
        *,
        parameter: Payload | None = None,
        user_action: Payload | None = None,
    ) -> None:
        event = outcomes.wait(run.item, status, now_ms=self._clock.now_ms())
        run.item.parameter, run.item.user_action = parameter, user_action
        self._emit(run.item, [item_event(event, run.item, run.triggered_by)])

    def _logged_in(self, run: Run) -> None:
        if run.script.failure is not None:
            self._end(run, run.script.failure)
        elif run.item.withheld and not run.renews:
            self._end(run, "USER_AUTHORIZATION_REVOKED")
        else:
            self._emit(run.item, [item_event("item/login_succeeded", run.item, run.triggered_by)])
            steps = [_step(product) for product in PRODUCTS if product in run.item.products]
            self._walk(run, [*steps, "MERGING"])

    def _walk(self, run: Run, steps: list[str]) -> None:
        """One execution step after the other, then the end of the run."""
        if steps:
            self._show(run.item, "UPDATING", steps[0])
            self._next(run, lambda run: self._walk(run, steps[1:]))
        else:
            self._read(run)

    def _read(self, run: Run) -> None:
        item, options = run.item, self._options
        order = Order(
            partial=list(run.script.partial),
            warned=list(run.script.warned),
            consent="renewed" if run.renews else None,
            triggered_by=run.triggered_by,
        )
        if item.last_updated is None:
            rows = options.first_rows * run.script.multiplier
            self._clock.run(self.be_born(item, order, transactions=rows, accounts=2))
            return
        now_ms = self._clock.now_ms()
        self.collect(item, daily_order(item, order, rows_a_day=options.rows_a_day, now_ms=now_ms))

    def _end(self, run: Run, failure: str) -> None:
        order = Order(
            status=failure,
            provider_message=run.script.provider_message,
            triggered_by=run.triggered_by,
        )
        self.collect(run.item, order)

    def _expire(self, item: Item) -> None:
        if item.id in self._world.items:
            item.withheld = True
            item.touch(self._clock.now_ms())


def _cancel(item: Item) -> None:
    if item.timer is not None:
        item.timer.cancel()
        item.timer = None


def _step(product: str) -> str:
    """The execution status while a product is read: CREDITCARDS_IN_PROGRESS and so on."""
    return f"{product.replace('CREDIT_CARDS', 'CREDITCARDS')}_IN_PROGRESS"
