"""One collection: what the bank changed is merged, and the webhooks that follow from it."""

from collections import defaultdict
from typing import Any, Literal

import msgspec

from simulator import outcomes
from simulator import products as product_changes
from simulator.accounts import Account
from simulator.bank import Edit, Wishes, draw_edits
from simulator.clock import DAY_MS, iso
from simulator.events import Event, item_event, transactions_changed, transactions_created
from simulator.history import new_id
from simulator.items import Item
from simulator.merge import Merge, merge
from simulator.openings import set_balance, set_cycle
from simulator.rows import Row
from simulator.world import World


class Order(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """What a collection shall find; counts are over all accounts of the item."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    restated: int = 0
    returned: int = 0
    late: int = 0
    settled: int = 0
    status: str | None = None
    partial: bool | list[str] = False
    consent: Literal["revoked", "expired", "renewed"] | None = None
    close: list[str] = []
    products: dict[str, product_changes.Counts] = {}
    triggered_by: str = "SYNC"

    def wishes(self) -> Wishes:
        return Wishes(
            created=self.created,
            late=self.late,
            settled=self.settled,
            updated=self.updated,
            deleted=self.deleted,
            restated=self.restated,
            returned=self.returned,
        )


class Collected(msgspec.Struct):
    """What happened: ids per account and product, and the bodies of the webhooks, in order."""

    accounts: dict[str, dict[str, list[str]]] = {}
    products: dict[str, product_changes.Ids] = {}
    closed: list[str] = []
    events: list[Event] = []


class Links(msgspec.Struct, frozen=True):
    """How webhooks point back at this server."""

    base_url: str
    legacy: bool = False


# What `partial: true` means: banks fail most often there.
USUALLY_PARTIAL = ("INVESTMENTS", "INVESTMENTS_TRANSACTIONS", "LOANS")


def collect(world: World, item: Item, order: Order, *, links: Links) -> Collected:
    """All at once: no request sees half of a collection."""
    now_ms = world.clock.now_ms()
    item.collections += 1
    done = Collected()
    if order.consent == "renewed":
        renew_consent(item, now_ms)
    elif order.consent is not None:
        withdraw_consent(item, order.consent, now_ms)
    if item.withheld:
        _fail(item, "USER_AUTHORIZATION_REVOKED", order, done, now_ms)
    elif order.status in outcomes.WAITING:
        event = outcomes.wait(item, order.status, now_ms=now_ms)
        done.events.append(_item_event(item, event, order.triggered_by))
    elif order.status not in {None, "UPDATED"}:
        code = outcomes.USUAL.get(str(order.status), str(order.status))
        _fail(item, code, order, done, now_ms)
    else:
        _read(world, item, order, done, now_ms, links)
    return done


def _read(
    world: World, item: Item, order: Order, done: Collected, now_ms: int, links: Links
) -> None:
    stale = stale_products(item, order.partial)
    for closed_id in order.close:
        _close(world, item, closed_id)
        done.closed.append(closed_id)
    for name, counts in order.products.items():
        if product_changes.COLLECTED_AS[name] not in stale:
            done.products[name] = product_changes.change(world, item, name, counts, now_ms)
    if "TRANSACTIONS" not in stale:
        accounts = [a for a in item.accounts.values() if _read_now(a, stale)]
        edits = draw_edits(world, item.random, accounts, item.removed, order.wishes())
        apply_edits(world, item, edits, done, now_ms, links)
    first = item.last_updated is None
    outcomes.succeed(item, now_ms=now_ms, stale=stale)
    done.events.append(
        _item_event(item, "item/created" if first else "item/updated", order.triggered_by)
    )
    note(item, done, now_ms)


def stale_products(item: Item, partial: bool | list[str]) -> dict[str, str]:
    names = USUALLY_PARTIAL if partial is True else partial or ()
    return {name: f"{name} could not be read" for name in names if name in item.products}


def _read_now(account: Account, stale: dict[str, str]) -> bool:
    return ("CREDIT_CARDS" if account.type == "CREDIT" else "ACCOUNTS") not in stale


def apply_edits(
    world: World, item: Item, edits: list[Edit], done: Collected, now_ms: int, links: Links
) -> None:
    by_account: defaultdict[str, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_account[edit.account.id].append(edit)
    for account_id, of_account in by_account.items():
        account = item.accounts[account_id]
        merged = merge(
            *_both_sides(account, of_account),
            now_ms=now_ms,
            new_id=lambda: new_id(item.random),
        )
        _store(world, item, account, merged)
        _refresh(account, now_ms)
        done.accounts[account_id] = {
            "created": [row.id for row in merged.created],
            "updated": [row.id for _, row in merged.updated],
            "deleted": [row.id for row in merged.deleted],
        }
        done.events += transaction_events(item, account_id, merged, links)


def _both_sides(account: Account, edits: list[Edit]) -> tuple[list[Row], list[Row]]:
    """What is held and what is reported on every day that an edit touches."""
    rows = [row for edit in edits for row in (edit.held, edit.reported) if row is not None]
    days = sorted({row.date // DAY_MS for row in rows})
    held = [row for day in days for row in account.on_day(day)]
    changed = {edit.held.id: edit.reported for edit in edits if edit.held is not None}
    reported = [changed.get(row.id, row) for row in held]
    added = [edit.reported for edit in edits if edit.held is None]
    return held, [row for row in (*reported, *added) if row is not None]


def _store(world: World, item: Item, account: Account, merged: Merge) -> None:
    for row in merged.deleted:
        account.remove(row)
        del world.rows[row.id]
        item.removed.append(row)
    for old, new in merged.updated:
        account.remove(old)
        account.add(new)
        world.rows[new.id] = new
    for row in merged.created:
        account.add(row)
        world.rows[row.id] = row


def _refresh(account: Account, now_ms: int) -> None:
    set_balance(account, now_ms)
    if account.type == "CREDIT":
        set_cycle(account, now_ms)
    account.payload["updatedAt"] = iso(now_ms)


def transaction_events(
    item: Item, account_id: str, merged: Merge, links: Links
) -> list[Event]:
    told: list[Event] = []
    if merged.created:
        told.append(
            transactions_created(
                merged.created,
                item_id=item.id,
                client_user_id=item.client_user_id,
                base_url=links.base_url,
                legacy=links.legacy,
            )
        )
    updated = [row.id for _, row in merged.updated]
    for name, ids in (
        ("transactions/updated", updated),
        ("transactions/deleted", [row.id for row in merged.deleted]),
    ):
        told += transactions_changed(
            name,
            ids,
            item_id=item.id,
            account_id=account_id,
            client_user_id=item.client_user_id,
        )
    return told


def first_events(item: Item, links: Links, *, triggered_by: str) -> list[Event]:
    """What Pluggy tells after a first import."""
    told = []
    for account in item.accounts.values():
        if account.rows:
            told += transaction_events(item, account.id, Merge(account.rows, [], []), links)
    told.append(_item_event(item, "item/created", triggered_by))
    return told


def _item_event(item: Item, name: str, triggered_by: str | None) -> Event:
    return item_event(
        name,
        item_id=item.id,
        client_user_id=item.client_user_id,
        triggered_by=triggered_by,
        error=item.error if name == "item/error" else None,
    )


def _fail(item: Item, code: str, order: Order, done: Collected, now_ms: int) -> None:
    outcomes.fail(item, code, now_ms=now_ms)
    done.events.append(_item_event(item, "item/error", order.triggered_by))


def _close(world: World, item: Item, closed_id: str) -> None:
    if closed_id in item.accounts:
        world.close_account(item, closed_id)
    elif closed_id in item.investments:
        product_changes.close_investment(world, item, closed_id)
    else:
        product_changes.close_loan(world, item, closed_id)


def withdraw_consent(item: Item, how: str, now_ms: int) -> None:
    item.withheld = True
    shown: dict[str, Any] = {"revokedAt": iso(now_ms)}
    if how == "expired":
        item.consent_expires = now_ms - 1000
        shown = {"expiresAt": iso(item.consent_expires)}
    for consent_id, held in item.consents.items():
        item.consents[consent_id] = held | shown


def renew_consent(item: Item, now_ms: int) -> None:
    item.withheld = False
    if item.consent_expires is not None:
        item.consent_expires = now_ms + 365 * DAY_MS
    expires = None if item.consent_expires is None else iso(item.consent_expires)
    for consent_id, held in item.consents.items():
        item.consents[consent_id] = held | {"revokedAt": None, "expiresAt": expires}


def note(item: Item, done: Collected, now_ms: int) -> None:
    """Write what changed into the item's time line."""
    at = iso(now_ms)
    for account_id, lists in done.accounts.items():
        for what, ids in lists.items():
            item.timeline += [
                {"at": at, "entity": "transactions", "what": what, "id": id_, "accountId": account_id}
                for id_ in ids
            ]
    for name, lists in done.products.items():
        for what, ids in lists.items():
            item.timeline += [{"at": at, "entity": name, "what": what, "id": id_} for id_ in ids]
    item.timeline += [{"at": at, "entity": None, "what": "closed", "id": id_} for id_ in done.closed]
