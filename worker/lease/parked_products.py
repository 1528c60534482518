"""Parked products: skipped after Pluggy refuses them for several items, until a probe succeeds."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from worker.entities.registry import PRODUCTS
from worker.inbox.accept import accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.lease.lease import SyncSession
from worker.planner.state import WHOLE_ITEM, Step
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import (
    HTTP_GONE,
    Deferred,
    Failure,
    PluggyError,
    PluggyHalt,
    PluggyRefused,
    PluggyRejected,
)
from worker.store import parks

log = structlog.get_logger()

ITEMS_REFUSED: Final = 5
PROBE_EVERY: Final = timedelta(hours=1)
PROBE_AGAIN: Final = timedelta(minutes=1)
PROBED_AT_ONCE: Final = 3
"""Scopes a probe: one of them may be refused for a reason of its own and another answered."""
FREED_AT_ONCE: Final = 500
LISTS: Final = {name: product.path for name, product in PRODUCTS.items() if product.path}
LEFT_OUT: Final = "Pluggy {does} {endpoint} ({code}): {product} are left out, all else goes on. "
RETIRED_ADVICE: Final = LEFT_OUT + "Install a newer release."
REFUSED_ADVICE: Final = LEFT_OUT + (
    "Ask Pluggy whether this application may use it; it is tried once an hour. Who can do without"
    " it leaves it out of PRODUCTS."
)


async def park_if_refused(session: SyncSession, step: Step, failure: Failure) -> None:
    """Park the step's product if Pluggy refuses it for several items, and for another one too.

    A list that is retired (410) is parked by the first item that meets it. Raises PluggyHalt.
    """
    if step.product not in LISTS or not _may_concern_all(failure):
        return
    refused = await parks.count_refused_items(
        session.db, product=step.product, failure_code=failure.code
    )
    retired = failure.status == HTTP_GONE and failure.endpoint == _endpoint(step.product)
    if refused.others_succeed or not (retired or refused.items >= ITEMS_REFUSED):
        return
    if await _another_is_answered(session, step):
        return
    does = "has retired" if failure.status == HTTP_GONE else "refuses"
    advice = RETIRED_ADVICE if failure.status == HTTP_GONE else REFUSED_ADVICE
    endpoint, code, product = failure.endpoint, failure.code, step.product
    text = advice.format(does=does, endpoint=endpoint, code=code, product=product)
    is_new = await parks.park_product(
        session.db,
        product=product,
        endpoint=endpoint,
        failure_code=code,
        error_id=failure.error_id,
        items=refused.items,
        advice=text,
        probe_every=PROBE_EVERY,
    )
    if is_new:
        log.error("product_parked", product=product, code=code, endpoint=endpoint, advice=text)


def _may_concern_all(failure: Failure) -> bool:
    """Whether the refusal may concern the endpoint. A 404 with a code concerns one thing only."""
    not_there = failure.code.startswith("404:") and not failure.code.endswith(":no_code")
    return failure.failure_class in ("refused", "reject") and not not_there


def _endpoint(product: str) -> str:
    path = LISTS[product].split("?", 1)[0]
    return f"GET {path.format(owner='{id}')}"


async def _another_is_answered(session: SyncSession, step: Step) -> bool:
    """Ask for the same product of a few other items or accounts, as second witnesses.

    If there are none, ask for the list again from its beginning: the refusal may have been a
    cursor's.
    """
    own = (session.item_id, step.scope_id)
    others = await parks.find_other_scopes(
        session.db,
        product=step.product,
        item_id=session.item_id,
        scope_id=step.scope_id,
        limit=PROBED_AT_ONCE,
        scope=PRODUCTS[step.product].scope,
    )
    for item_id, owner_id in [(other.item_id, other.scope_id) for other in others] or [own]:
        if await _is_answered(session.pluggy, step.product, item_id, owner_id) is not False:
            return True
    return False


async def _is_answered(
    reader: PluggyReader, product: str, item_id: uuid.UUID, owner_id: uuid.UUID
) -> bool | None:
    """Whether Pluggy answers a product's list; None: unknown for now. Raises PluggyHalt."""
    path = LISTS[product].format(owner=item_id if owner_id == WHOLE_ITEM else owner_id)
    try:
        await reader.client.call(path, lane=reader.lane, count=partial(_count, reader))
    except PluggyHalt:
        raise
    except Deferred as error:
        return True if error.is_own else None
    except PluggyRefused:
        return False
    except PluggyRejected as error:
        return error.code.startswith("404:") and not error.code.endswith(":no_code")
    except PluggyError:
        return None
    return True


def _count(reader: PluggyReader) -> None:
    reader.requests += 1


async def mark_parked(session: SyncSession, steps: Collection[tuple[str, uuid.UUID]]) -> None:
    """Record the steps that a claim leaves out, so that they are read when the product is unparked.

    Each is recorded before the claim settles what waited for it: nothing else makes the item due.
    Raises LeaseLost.
    """
    products, owners = map(list, zip(*sorted(steps), strict=True))
    async with session.page() as conn:
        await parks.mark_parked_steps(conn, session.item_id, products=products, scope_ids=owners)


async def tend_parks(db: Pool, client: PluggyClient, products: Sequence[str]) -> bool:
    """Probe a parked product if its probe is due, and free the items of unparked ones.

    Returns whether there may be more. Errors: those of a Postgres that is away.
    """
    await parks.unpark_unwanted(db, products=products)
    found = await parks.claim_park_probe(db, pause=PROBE_EVERY)
    if found is not None:
        await _probe(db, client, found.product, found.parked_at)
    return await _free(db)


async def _probe(db: Pool, client: PluggyClient, product: str, parked_at: datetime) -> None:
    reader = PluggyReader(client, Lane.RETRY)
    scopes = await parks.load_parked_scopes(db, product=product, limit=PROBED_AT_ONCE)
    answers: list[bool | None] = []
    try:
        for scope in scopes:
            answers.append(await _is_answered(reader, product, scope.item_id, scope.scope_id))
            if answers[-1]:
                break
    except PluggyHalt as error:
        log.warning("park_probe_failed", product=product, code=error.code)
        return
    if not scopes or True in answers:
        await parks.unpark_product(db, product=product, parked_at=parked_at)
        log.info("product_unparked", product=product)
    elif None in answers:
        await parks.delay_park_probe(db, product=product, pause=PROBE_AGAIN)


async def _free(db: Pool) -> bool:
    """Store an event for each item of which something was left out, so that it is read now."""
    items = sorted(await parks.load_unparked_items(db, limit=FREED_AT_ONCE))
    if not items:
        return False
    now = await db.fetchval("SELECT clock_timestamp()")
    events = [own_event("sync/unparked", item, lane=Lane.RETRY, now=now) for item in items]
    await accept_events(db, events)
    await parks.free_steps(db, item_ids=items)
    return len(items) == FREED_AT_ONCE
