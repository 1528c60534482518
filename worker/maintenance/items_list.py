"""The daily comparison of Pluggy's list of items with ours, where Pluggy has enabled the list.

`GET /v2/items` is enabled for an application on request; others are answered 403 with a code, which
ends it for a day. Items that are listed and not held are kept for the worklist, or registered with
ADOPT_UNKNOWN_ITEMS=1. Live items that a complete list omits are asked for by id, as if a webhook
had named them: only a 404 says that one is gone. Source:
https://docs.pluggy.ai/en/reference/items/items-list-by-cursor
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.inbox.accept import Accepted, accept_events
from worker.inbox.events import own_event
from worker.infra.lanes import Lane
from worker.infra.lazy_log import LazyLog
from worker.infra.parsing import parse_uuid
from worker.infra.postgres import Pool
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import Deferred, PluggyError, PluggyUnavailable, classify
from worker.pluggy_api.paging import query_of
from worker.pluggy_api.payloads import Envelope, decode_id
from worker.store import items_list, reconciliation

log = LazyLog()

TASK: Final = "items_list"
NOT_ENABLED: Final = "403:LIST_ITEMS_FEATURE_NOT_ENABLED"
PATH: Final = "/v2/items"
INTERVAL: Final = timedelta(days=1)
TRY_AGAIN: Final = timedelta(hours=1)
"""After a failure, and the lease: a worker that ends in the middle of a list leaves it."""
PAGES_AT_ONCE: Final = 10
"""Pages of 500 items: other periodic tasks wait meanwhile."""
MAX_PAGES: Final = 2000
MAX_ASKED: Final = 100
MAX_ADOPTED: Final = 100
"""Items a day: neither a wrong list nor a new application may take the rate limit for itself."""


@dataclass(slots=True)
class ItemsListing:
    """A list of items as far as it is read: ids alone, its newest first.

    started_at: by Postgres's clock; items that came later may be missing.
    is_complete: whether Pluggy has said that nothing follows, and every row had a readable id.
    """

    started_at: datetime
    ids: dict[uuid.UUID, None] = field(default_factory=dict)
    path: str | None = PATH
    is_complete: bool = True
    pages: int = 0
    _cursors: set[str] = field(default_factory=set)

    async def read(self, pluggy: PluggyReader, *, pages: int = MAX_PAGES) -> bool:
        """Read so many pages more; returns whether more follow. Raises PluggyError."""
        for _ in range(pages):
            if self.path is None:
                break
            self._add(await pluggy.envelope(self.path))
        return self.path is not None

    def _add(self, envelope: Envelope) -> None:
        self.pages += 1
        for row in envelope.results:
            item_id = parse_uuid(decode_id(bytes(row)))
            if item_id is None:
                self.is_complete = False
            else:
                self.ids[item_id] = None
        cursor = envelope.next
        if cursor is None:
            ends = envelope.is_last_by_cursor or envelope.total_pages in (0, 1)
            self.is_complete &= ends
            self.path = None
            return
        if cursor in self._cursors or self.pages >= MAX_PAGES:
            raise PluggyUnavailable("endless_list")
        self._cursors.add(cursor)
        self.path = PATH + query_of(cursor)


@dataclass(slots=True)
class ItemsList:
    """The periodic task. One worker at a time does it, a few pages at a time."""

    db: Pool
    client: PluggyClient
    adopts: bool = False
    _listing: ItemsListing | None = None

    async def compare(self) -> bool:
        """Do a portion of what is due; returns whether more follows at once."""
        if self._listing is None and not await self._begin():
            return False
        listing = self._listing
        assert listing is not None  # noqa: S101 - begun above
        try:
            more = await listing.read(PluggyReader(self.client, Lane.AUDIT), pages=PAGES_AT_ONCE)
        except Deferred:
            return False  # the same page is asked for when the task runs next
        except PluggyError as error:
            self._listing = None
            await self._failed(error)
            return False
        if not more:
            self._listing = None
            await self._settle(listing)
        return more

    async def _begin(self) -> bool:
        """Begin a list, if this worker gets the lease of the task; returns whether it did."""
        if not await reconciliation.take_periodic_task_lease(self.db, name=TASK, pause=TRY_AGAIN):
            return False
        self._listing = ItemsListing(await items_list.clock(self.db))
        return True

    async def _failed(self, error: PluggyError) -> None:
        """Keep the failure. Where the list is not enabled, that is said once and asked daily."""
        code = classify(error).code
        if code == NOT_ENABLED:
            if await items_list.load_items_list_failure(self.db) != code:
                log.info("items_list_not_enabled")
            # What an earlier list had is no longer checked.
            await items_list.store_unknown_items(self.db, listed=[], complete=True)
            await items_list.postpone_items_list(self.db, pause=INTERVAL)
        else:
            log.warning("items_list_failed", code=code, error_id=error.error_id)
        await reconciliation.end_periodic_task(self.db, name=TASK, failure_code=code)

    async def _settle(self, listing: ItemsListing) -> None:
        ids = list(listing.ids)
        unknown = await items_list.store_unknown_items(
            self.db, listed=ids, complete=listing.is_complete
        )
        adopted = await self._order("sync/register", unknown[:MAX_ADOPTED] if self.adopts else [])
        asked = await self._ask_unlisted(ids, listing.started_at) if listing.is_complete else 0
        log.info(
            "items_listed",
            listed=len(ids),
            complete=listing.is_complete,
            unknown=len(unknown),
            adopted=adopted,
            asked=asked,
        )
        await items_list.postpone_items_list(self.db, pause=INTERVAL)
        await reconciliation.end_periodic_task(self.db, name=TASK, failure_code=None)

    async def _ask_unlisted(self, listed: list[uuid.UUID], known_since: datetime) -> int:
        omitted = await items_list.find_unlisted_items(
            self.db, listed=listed, known_since=known_since, limit=MAX_ASKED
        )
        return await self._order("sync/missed-webhook-check", omitted)

    async def _order(self, event: str, item_ids: list[uuid.UUID]) -> int:
        """Store an event of our own for each item; returns how many."""
        now = datetime.now(UTC)
        events = [own_event(event, item_id, lane=Lane.BACKFILL, now=now) for item_id in item_ids]
        answers = await accept_events(self.db, events) if events else []
        return sum(isinstance(answer, Accepted) and answer.is_new for answer in answers)
