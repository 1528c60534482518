"""Columns and endpoints of connectors and categories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from worker.pluggy_api.endpoints import PluggyReader
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
        "has_mfa": _flag(fields.get("hasMFA")),
        "oauth": _flag(fields.get("oauth")),
        "is_open_finance": _flag(fields.get("isOpenFinance")),
        "is_sandbox": _flag(fields.get("isSandbox")),
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


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """How one of the two is listed, asked for by id, and mapped; version as in sync.rows.Entity."""

    mapper: Callable[[Mapping[str, Any]], dict[str, Any]]
    version: int
    read_id: Callable[[object], Key | None]
    fetch_all: Callable[[PluggyReader], Awaitable[Sequence[msgspec.Raw]]]
    fetch_one: Callable[[PluggyReader, Any], Awaitable[bytes]]


REFERENCE_DATA: Final = {
    "connectors": ReferenceData(
        connector_row, 1, integer, PluggyReader.connectors, PluggyReader.connector
    ),
    "categories": ReferenceData(
        category_row, 1, text, PluggyReader.categories, PluggyReader.category
    ),
}
