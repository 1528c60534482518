"""Columns and endpoints of connectors and categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from worker.pluggy_api.values import inner, integer, moment, text, texts

Key = int | str


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
        "has_mfa": _boolean(fields.get("hasMFA")),
        "oauth": _boolean(fields.get("oauth")),
        "is_open_finance": _boolean(fields.get("isOpenFinance")),
        "is_sandbox": _boolean(fields.get("isSandbox")),
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


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """How connectors or categories are listed, read by id, and mapped; version as in Entity."""

    mapper: Callable[[Mapping[str, Any]], dict[str, Any]]
    version: int
    read_id: Callable[[object], Key | None]
    path: str
    query: str = ""

    @property
    def list_path(self) -> str:
        return self.path + self.query

    def row_path(self, key: Key) -> str:
        return f"{self.path}/{quote(str(key), safe='')}"


REFERENCE_DATA: Final = {
    # Those of the sandbox too.
    "connectors": ReferenceData(connector_row, 1, integer, "/connectors", "?sandbox=true"),
    "categories": ReferenceData(category_row, 1, text, "/categories"),
}
