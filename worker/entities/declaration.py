"""What a module of an entity declares: its table, its lists at Pluggy, and how rows are written."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol
from zoneinfo import ZoneInfo

import msgspec

from worker.pluggy_api.errors import PluggyNotFound
from worker.pluggy_api.paging import FullList
from worker.pluggy_api.values import Fields
from worker.store.entities.transactions import StoredHash
from worker.store.rows import StoredVersion, Upserted
from worker.store.statements import Executor

if TYPE_CHECKING:
    from worker.pluggy_api.endpoints import PluggyReader

Mapper = Callable[[Any, ZoneInfo], dict[str, Any]]


class Scope(StrEnum):
    """What one list belongs to: an item, or each account or investment of it."""

    ITEM = "item"
    ITEM_WITH_CONSENTS = "item_with_consents"
    ACCOUNT = "account"
    CARD = "card"
    INVESTMENT = "investment"


SCOPES_OF_ITEMS: Final = (Scope.ITEM, Scope.ITEM_WITH_CONSENTS)
SCOPES_WITHIN: Final = {
    "accounts": (Scope.ACCOUNT, Scope.CARD),
    "investments": (Scope.INVESTMENT,),
}
"""By the product that owns them."""


class LoadVersions(Protocol):
    """A statement that loads what a comparison needs of the rows held."""

    def __call__(
        self, conn: Executor, item_id: uuid.UUID, /, *, ids: Collection[uuid.UUID]
    ) -> Awaitable[list[StoredVersion]]: ...


class LoadHashes(Protocol):
    """A statement that loads the hashes of rows that are stored as this version maps them."""

    def __call__(
        self, conn: Executor, item_id: uuid.UUID, /, *, ids: Collection[uuid.UUID], version: int
    ) -> Awaitable[list[StoredHash]]: ...


class Upsert(Protocol):
    """A statement that writes rows: a JSON array of documents, one for each row."""

    def __call__(
        self, conn: Executor, /, *, rows: str, item_id: uuid.UUID, run_id: int, now: datetime
    ) -> Awaitable[list[Upserted]]: ...


class CountExplained(Protocol):
    """A statement that counts rows whose changes no event announces; rows as in Upsert."""

    def __call__(self, conn: Executor, item_id: uuid.UUID, /, *, rows: str) -> Awaitable[int]: ...


class LoadLive(Protocol):
    """A statement that loads the live rows of an item; of one owner where rows have one."""

    def __call__(
        self, conn: Executor, item_id: uuid.UUID, owner_id: uuid.UUID, /
    ) -> Awaitable[list[StoredVersion]]: ...


class Tombstone(Protocol):
    """A statement that tombstones the rows of an owner (the item, an account, an investment).

    Where Pluggy tells of single rows that are gone, a row is its own owner. Returns how many.
    """

    def __call__(
        self,
        conn: Executor,
        item_id: uuid.UUID,
        owner_id: uuid.UUID,
        /,
        *,
        run_id: int,
        now: datetime,
    ) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A table of schema pluggy under its name in PRODUCTS.

    order: its place among the reads of a plan; a purge goes the other way round.
    known_fields: the fields of a row (see pluggy_api/known_fields.py); others are contract drift.
    path: its list at Pluggy, by the `{owner}` that the scope says; None: it is no list.
    status_keys: its keys of an item's statusDetail. None of them: any change of the item may be one
    of it. NPM's SDK and the OpenAPI file differ on some names.
    rechecks_first: whether the first list is read again if it is empty. collected_as: its name in
    an item's `products`; None: it is not named there.
    """

    product: str
    order: int
    known_fields: str
    scope: Scope = Scope.ITEM
    path: str | None = None
    status_keys: tuple[str, ...] = ()
    rechecks_first: bool = False
    collected_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity(Product):
    """A product of many rows an item. version rises when the mapper learns a column.

    count_explained: of rows that a verify changes, those that are no drift; None: all are.
    fields: of an entity of many rows, what its mapper reads, `updated_at` among it; a row without
    novelties comes to the mapper so, others as a mapping. New rows are written by COPY, which takes
    the mapper's values as they are. load_hashes: of such an entity; of most of its rows no more is
    needed than their hashes.
    """

    mapper: Mapper
    version: int
    load_versions: LoadVersions
    upsert: Upsert
    tombstone: Tombstone
    count_explained: CountExplained | None = None
    fields: type[Fields] | None = None
    load_hashes: LoadHashes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Entity):
    """An entity that Pluggy lists whole, by item or by account; `row_path` reads one row by `{id}`.

    owner_key is the field of a row that names the list it belongs to: itemId or accountId. absent
    is the failure code that proves that a row is gone. is_single: the list is one object or none.
    """

    path: str
    row_path: str
    owner_key: str
    absent: str
    load_live: LoadLive
    is_single: bool = False

    async def read(self, pluggy: PluggyReader, owner: uuid.UUID) -> FullList:
        """All rows of an item or an account. Raises PluggyError."""
        path = self.path.format(owner=owner)
        if not self.is_single:
            return await pluggy.rows(path)
        try:
            return FullList([msgspec.Raw(await pluggy.row(path))])
        except PluggyNotFound as answer:
            if answer.code != self.absent:
                raise
            return FullList([])

    async def read_row(self, pluggy: PluggyReader, row_id: uuid.UUID) -> bytes:
        """One row by its id. Raises PluggyError."""
        return await pluggy.row(self.row_path.format(id=row_id))
