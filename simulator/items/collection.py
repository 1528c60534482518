"""One collection: merges what the bank changed, and emits the webhooks that follow."""

from collections import defaultdict
from dataclasses import dataclass, field

from simulator.bank import bills
from simulator.bank import products as product_changes
from simulator.bank.accounts import Account
from simulator.bank.books import Books, Edit
from simulator.bank.history import Movements, new_id
from simulator.bank.openings import booked, print_balances, set_balance, set_cycle
from simulator.bank.rows import Row
from simulator.clock import DAY_MS, iso
from simulator.items import consents, outcomes, timeline
from simulator.items.birth import fill_products
from simulator.items.item import Item
from simulator.items.merge import Merge, match_key, merge
from simulator.items.orders import Collected, Counts, Order
from simulator.webhooks.events import (
    Event,
    Links,
    item_event,
    transactions_changed,
    transactions_created,
)
from simulator.world import World

# Number of deleted rows that Pluggy remembers, in case one comes back.
_REMEMBERED = 1_000
ROWS_OF_A_NEW_ACCOUNT = 8


@dataclass(frozen=True)
class Scene:
    """One collection under way. All its changes have one time: `now_ms`."""

    world: World
    item: Item
    links: Links
    now_ms: int
    done: Collected = field(default_factory=Collected)


def collect(world: World, item: Item, order: Order, *, links: Links) -> Collected:
    """Collect in one step: no request sees half of a collection."""
    scene = Scene(world, item, links, world.clock.now_ms())
    now_ms, done = scene.now_ms, scene.done
    if order.consent == "renewed":
        consents.renew(item, now_ms)
    elif order.consent is not None:
        consents.withdraw(item, order.consent, now_ms)
    if item.withheld:
        event = outcomes.fail(item, "USER_AUTHORIZATION_REVOKED", now_ms=now_ms)
    elif order.status in outcomes.WAITING:
        event = outcomes.wait(item, order.status, now_ms=now_ms)
    elif order.status not in {None, "UPDATED"}:
        code = outcomes.USUAL.get(str(order.status), str(order.status))
        event = outcomes.fail(item, code, now_ms=now_ms, provider_message=order.provider_message)
    else:
        event = _read(scene, order)
    timeline.note_changes(item, done, now_ms)
    timeline.note_status(item, now_ms)
    done.events.append(item_event(event, item, order.triggered_by))
    return done


def first_events(item: Item, links: Links, *, triggered_by: str) -> list[Event]:
    """Webhooks after a first import."""
    events = []
    for account in item.accounts.values():
        if account.rows:
            events += _about_rows(item, account.id, Merge(account.rows, [], []), links)
    events.append(item_event("item/created", item, triggered_by))
    return events


def _read(scene: Scene, order: Order) -> str:
    """Change the data that the institution let Pluggy read. Returns the event's name."""
    world, item, now_ms = scene.world, scene.item, scene.now_ms
    before = product_changes.stored_ids(item)
    stale = outcomes.reasons(item, order.partial)
    first = item.last_updated is None
    caught_up = item.unread - set(stale)
    item.unread &= set(stale)
    fill_products(world, item, caught_up, now_ms)
    for closed_id in order.close:
        world.close(item, closed_id)
        scene.done.closed.append(closed_id)
    orders = {n: counts for n, counts in order.products.items() if _can_change(item, n, stale)}
    scene.done.products |= product_changes.change(world, item, orders, before=before, now_ms=now_ms)
    if "TRANSACTIONS" in item.products and "TRANSACTIONS" not in stale:
        edits = _bill_edits(scene, order, stale) + _first_rows(scene)
        apply_edits(scene, edits + _row_edits(scene, order, stale, edits))
    warned = outcomes.reasons(item, order.warned)
    outcomes.succeed(item, now_ms=now_ms, stale=stale, warned=warned, code=order.warning_code)
    return "item/created" if first else "item/updated"


def _can_change(item: Item, name: str, stale: dict[str, str]) -> bool:
    product = product_changes.COLLECTED_AS[name]
    return product in item.products and product not in stale


def _bill_edits(scene: Scene, order: Order, stale: dict[str, str]) -> list[Edit]:
    # A bill touches rows of the card and of the bank account: both must have been read.
    if "CREDIT_CARDS" in stale or "ACCOUNTS" in stale:
        return []
    world, item, now_ms = scene.world, scene.item, scene.now_ms
    wished = order.products.get("bills", Counts())
    edits, closed, paid = bills.wished(
        world, item, closed=wished.created, settled=wished.updated, now_ms=now_ms
    )
    # A bill made and deleted in one collection was never there for anybody.
    stored = [bill_id for bill_id in item.bills if bill_id not in closed]
    gone = item.random.sample(stored, min(wished.deleted, len(stored)))
    for bill_id in gone:
        world.remove(item.bills, bill_id)
    if closed or paid or gone:
        scene.done.products["bills"] = {"created": closed, "updated": paid, "deleted": gone}
    if order.calendar:
        since_ms = item.last_updated or item.created
        edits += bills.by_calendar(world, item, since_ms=since_ms, now_ms=now_ms)
    return edits


def _first_rows(scene: Scene) -> list[Edit]:
    """Set the balances of the accounts that this collection has found."""
    item = scene.item
    found = scene.done.products.get("accounts", {}).get("created", [])
    accounts = [item.accounts[account_id] for account_id in found]
    return [
        Edit(account, None, row)
        for account in accounts
        for row in Movements(item.random, scene.world.society, account, scene.now_ms).past(
            ROWS_OF_A_NEW_ACCOUNT
        )
    ]


def _row_edits(
    scene: Scene, order: Order, stale: dict[str, str], bill_edits: list[Edit]
) -> list[Edit]:
    accounts = [account for account in scene.item.accounts.values() if _is_read(account, stale)]
    books = Books(scene.world, scene.item, accounts, scene.now_ms)
    books.leave_alone(bills.stored_ids(bill_edits))
    return books.draw(order, also_due=order.calendar)


def _is_read(account: Account, stale: dict[str, str]) -> bool:
    return ("CREDIT_CARDS" if account.type == "CREDIT" else "ACCOUNTS") not in stale


def apply_edits(scene: Scene, edits: list[Edit]) -> None:
    """Merge what the bank changed, account by account."""
    item, now_ms = scene.item, scene.now_ms
    by_account: defaultdict[str, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_account[edit.account.id].append(edit)
    for account_id, of_account in by_account.items():
        account = item.accounts[account_id]
        stored, reported = _both_sides(account, of_account)
        merged = merge(
            stored,
            reported,
            removed=[row for row in item.removed if row.account is account],
            now_ms=now_ms,
            new_id=lambda: new_id(item.random),
        )
        _store(scene.world, item, account, merged)
        _refresh(account, now_ms)
        scene.done.accounts[account_id] = {
            "created": [row.id for row in merged.created],
            "updated": [row.id for _, row in merged.updated],
            "deleted": [row.id for row in merged.deleted],
        }
        scene.done.events += _about_rows(item, account_id, merged, scene.links)


def _both_sides(account: Account, edits: list[Edit]) -> tuple[list[Row], list[Row]]:
    """The stored and the reported side of all rows that the merge could take for an edited one.

    The others would match themselves: leaving them out changes nothing and saves time.
    """
    rows = [row for edit in edits for row in (edit.stored, edit.reported) if row is not None]
    days = sorted({row.date // DAY_MS for row in rows})
    alike = {match_key(row) for row in rows}
    stored = [row for day in days for row in account.on_day(day) if match_key(row) in alike]
    changed = {edit.stored.id: edit.reported for edit in edits if edit.stored is not None}
    reported = [changed.get(row.id, row) for row in stored]
    added = [edit.reported for edit in edits if edit.stored is None]
    return stored, [row for row in (*reported, *added) if row is not None]


def _store(world: World, item: Item, account: Account, merged: Merge) -> None:
    for row in merged.deleted:
        account.remove(row)
        del world.rows[row.id]
    for old, new in merged.updated:
        account.remove(old)
        account.add(new)
        world.rows[new.id] = new
    print_balances(account, merged.created, account.opening_cents + booked(account))
    for row in merged.created:
        account.add(row)
        world.rows[row.id] = row
    back = {row.id for row in merged.created}
    removed = [row for row in item.removed if row.id not in back]
    item.removed = (removed + merged.deleted)[-_REMEMBERED:]


def _refresh(account: Account, now_ms: int) -> None:
    set_balance(account, now_ms)
    if account.type == "CREDIT":
        set_cycle(account, now_ms)
    account.payload["updatedAt"] = iso(now_ms)


def _about_rows(item: Item, account_id: str, merged: Merge, links: Links) -> list[Event]:
    created = [transactions_created(merged.created, item, links)] if merged.created else []
    updated, deleted = [row.id for _, row in merged.updated], [row.id for row in merged.deleted]
    return [
        *created,
        *transactions_changed("transactions/updated", updated, item, account_id),
        *transactions_changed("transactions/deleted", deleted, item, account_id),
    ]
