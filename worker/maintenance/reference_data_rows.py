"""Columns and endpoints of connectors and categories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

from worker.infra.postgres import Connection, Pool
from worker.pluggy_api.values import boolean, inner, integer, moment, text, texts
from worker.store import reference_data
from worker.store.reference_data import CategoryVersion, ConnectorVersion

Key = int | str
StoredVersion = ConnectorVersion | CategoryVersion


def connector_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of pluggy.connectors from a connector's JSON."""
    health = inner(fields, "health")
    return {
        "name": text(fields.get("name")),
        "type": text(fields.get("type")),
        "country": text(fields.get("country")),
        "institution_url": text(fields.get("institutionUrl")),
        "image_url": text(fields.get("imageUrl")),
        "primary_color": text(fields.get("primaryColor")),
        "has_mfa": boolean(fields.get("hasMFA")),
        "oauth": boolean(fields.get("oauth")),
        "is_open_finance": boolean(fields.get("isOpenFinance")),
        "is_sandbox": boolean(fields.get("isSandbox")),
        "health_status": text(health.get("status")),
        "health_stage": text(health.get("stage")),
        "products": texts(fields.get("products")),
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


def category_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of pluggy.categories from a category's JSON."""
    return {
        "description": text(fields.get("description")),
        "description_translated": text(fields.get("descriptionTranslated")),
        "parent_id": text(fields.get("parentId")),
        "parent_description": text(fields.get("parentDescription")),
    }


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
