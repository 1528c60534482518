"""Columns and endpoints of connectors and categories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

from worker.infra.postgres import Connection, Pool
from worker.pluggy_api.values import integer, mapper, text
from worker.store import reference_data
from worker.store.reference_data import CategoryVersion, ConnectorVersion

Key = int | str
StoredVersion = ConnectorVersion | CategoryVersion


connector_row: Final = mapper(
    text=(
        "name type country institution_url image_url primary_color health_status=health.status "
        "health_stage=health.stage"
    ),
    boolean="has_mfa=hasMFA oauth is_open_finance is_sandbox",
    texts="products",
    moment="source_created_at=createdAt source_updated_at=updatedAt",
)
"""Columns of pluggy.connectors from a connector's JSON."""
category_row: Final = mapper(
    text="description description_translated parent_id parent_description",
)
"""Columns of pluggy.categories from a category's JSON."""


class Upsert(Protocol):
    """A statement that writes one row, a JSON object; returns whether it is new."""

    def __call__(
        self, conn: Connection, /, *, row: str, run_id: int, now: datetime
    ) -> Awaitable[bool]: ...


class Tombstone(Protocol):
    """A statement that tombstones rows; returns the ids of those that were live."""

    def __call__(
        self, conn: Connection, /, *, ids: Collection[Any], run_id: int, now: datetime
    ) -> Awaitable[Sequence[Key]]: ...


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """How connectors or categories are listed, read by id, and mapped; version as in Entity."""

    mapper: Callable[[Mapping[str, Any]], dict[str, Any]]
    version: int
    read_id: Callable[[object], Key | None]
    path: str
    load_versions: Callable[[Pool], Awaitable[Sequence[StoredVersion]]]
    upsert: Upsert
    tombstone: Tombstone
    query: str = ""

    @property
    def list_path(self) -> str:
        return self.path + self.query

    def row_path(self, key: Key) -> str:
        return f"{self.path}/{quote(str(key), safe='')}"


REFERENCE_DATA: Final = {
    # Those of the sandbox too.
    "connectors": ReferenceData(
        mapper=connector_row,
        version=1,
        read_id=integer,
        path="/connectors",
        load_versions=reference_data.load_connectors_versions,
        upsert=reference_data.upsert_connectors,
        tombstone=reference_data.tombstone_connectors,
        query="?sandbox=true",
    ),
    "categories": ReferenceData(
        mapper=category_row,
        version=1,
        read_id=text,
        path="/categories",
        load_versions=reference_data.load_categories_versions,
        upsert=reference_data.upsert_categories,
        tombstone=reference_data.tombstone_categories,
    ),
}
