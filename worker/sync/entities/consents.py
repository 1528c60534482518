"""Consents: what a person has permitted at an Open Finance connector, a complete list by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.pluggy_api.values import moment, texts
from worker.store.entities import consents
from worker.sync.full_list import Listing
from worker.sync.store_rows import Entity


def consent_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.consents from a consent's JSON."""
    return {
        "products": texts(fields.get("products")),
        "permissions": texts(fields.get("openFinancePermissionsGranted")),
        "expires_at": moment(fields.get("expiresAt")),
        "revoked_at": moment(fields.get("revokedAt")),
        "source_created_at": moment(fields.get("createdAt")),
    }


CONSENTS: Final = Listing(
    entity=Entity(
        product="consents",
        mapper=consent_row,
        version=1,
        load_versions=consents.load_consents_versions,
        upsert=consents.upsert_consents,
    ),
    path="/consents",
    owner_key="itemId",
    absent="404:CONSENT_NOT_FOUND",
    load_live_ids=consents.load_live_consents_ids,
    tombstone=consents.tombstone_consents,
)
