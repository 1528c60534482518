"""Status of an item: whether a collection is running, and when each product was last collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from worker.entities.registry import PRODUCTS
from worker.infra.parsing import parse_time

# https://docs.pluggy.ai/docs/item-lifecycle; MERGING is known from the official SDK only.
IN_PROGRESS: Final = frozenset({"UPDATING", "MERGING", "WAITING_USER_INPUT", "WAITING_USER_ACTION"})
REVOKED: Final = "USER_AUTHORIZATION_REVOKED"
MEU_PLUGGY: Final = 200
"""MeuPluggy's connector: each item shows a bank that the person has connected at meu.pluggy.ai.

Pluggy says that it is not Open Finance, yet it has a consent; nextAutoSyncAt of healthy items may
be null, although they are collected daily. https://docs.pluggy.ai/en/docs/connections/item
"""

STATUS_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    name: product.status_keys for name, product in PRODUCTS.items() if product.status_keys
}


@dataclass(frozen=True, slots=True)
class Item:
    """The fields of GET /items/{id} that a plan depends on.

    unknown: products whose collection time lies in the future and is therefore unusable.
    """

    status: str
    execution_status: str
    last_updated_at: datetime | None
    updated_at: datetime | None
    is_open_finance: bool
    consent_expires_at: datetime | None
    collected_at: Mapping[str, datetime | None]
    next_auto_sync_at: datetime | None = None
    auto_sync_disabled: bool = False
    connector_id: int | None = None
    unknown: frozenset[str] = frozenset()
    not_updated: frozenset[str] = frozenset()
    """Products that the last collection reports as not updated."""

    @property
    def in_progress(self) -> bool:
        """Whether a collection is running or waits for the user, so lists may be incomplete."""
        return self.status in IN_PROGRESS

    @property
    def has_consents(self) -> bool:
        """Whether Pluggy lists consents of the item."""
        return self.is_open_finance or self.connector_id == MEU_PLUGGY

    def source_updated_at(self, product: str) -> datetime | None:
        """When Pluggy last collected a product; it decides whether a read is due. None: unknown.

        Consents have no time of their own: any change of the item may be one of its consents.
        """
        if product in self.unknown:
            return None
        own = self.collected_at.get(product) if product in STATUS_KEYS else self.updated_at
        return own or self.last_updated_at

    def succeeded(self, product: str) -> bool:
        """Whether the last collection succeeded and updated the product."""
        done = self.status == "UPDATED" and self.execution_status == "SUCCESS"
        return done and product not in self.not_updated

    def consent_lost(self, now: datetime) -> bool:
        """Expired or revoked: lists answer empty with 200; https://docs.pluggy.ai/docs/consents."""
        expired = self.consent_expires_at is not None and self.consent_expires_at <= now
        return expired or self.execution_status == REVOKED


def read_item(
    fields: Mapping[str, Any],
    *,
    is_open_finance: bool,
    connector_id: int | None = None,
    latest: datetime | None = None,
) -> Item:
    """Read an item's JSON; fields of another type count as absent.

    The connector is given apart: the stored JSON lacks it. Collection times after `latest` are
    unusable and become unknown.
    """
    detail = fields.get("statusDetail")
    detail = detail if isinstance(detail, dict) else {}
    item = Item(
        status=str(fields.get("status") or ""),
        execution_status=str(fields.get("executionStatus") or ""),
        last_updated_at=parse_time(fields.get("lastUpdatedAt")),
        updated_at=parse_time(fields.get("updatedAt")),
        is_open_finance=is_open_finance,
        consent_expires_at=parse_time(fields.get("consentExpiresAt")),
        collected_at={p: _latest(detail, keys) for p, keys in STATUS_KEYS.items()},
        next_auto_sync_at=parse_time(fields.get("nextAutoSyncAt")),
        auto_sync_disabled=fields.get("autoSyncDisabledAt") is not None,
        connector_id=connector_id,
        not_updated=frozenset(p for p, keys in STATUS_KEYS.items() if _is_old(detail, keys)),
    )
    return item if latest is None else _without_later(item, latest)


def _without_later(item: Item, latest: datetime) -> Item:
    times = {p: item.updated_at for p in PRODUCTS} | {**item.collected_at}
    return replace(
        item,
        last_updated_at=_until(latest, item.last_updated_at),
        updated_at=_until(latest, item.updated_at),
        unknown=frozenset(p for p, t in times.items() if t is not None and t > latest),
    )


def _until(latest: datetime, stated: datetime | None) -> datetime | None:
    return None if stated is not None and stated > latest else stated


def later_of(stored: Item, answer: Item) -> Item:
    """The stored item with the later collection times of both answers.

    Either answer may lag behind the other; an unnecessary read does no harm.
    """
    return replace(
        stored,
        last_updated_at=_later(stored.last_updated_at, answer.last_updated_at),
        updated_at=_later(stored.updated_at, answer.updated_at),
        collected_at={p: _later(t, answer.collected_at[p]) for p, t in stored.collected_at.items()},
        unknown=stored.unknown | answer.unknown,
    )


def _later(first: datetime | None, second: datetime | None) -> datetime | None:
    return max((t for t in (first, second) if t is not None), default=None)


def _is_old(detail: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    entries = (detail.get(key) for key in keys)
    return any(isinstance(e, dict) and e.get("isUpdated") is False for e in entries)


def _latest(detail: Mapping[str, Any], keys: tuple[str, ...]) -> datetime | None:
    entries = (detail.get(key) for key in keys)
    times = [parse_time(e.get("lastUpdatedAt")) for e in entries if isinstance(e, dict)]
    return max((t for t in times if t), default=None)
