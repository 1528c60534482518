"""Identities: the person or firm behind an item; one object, handled as a list of one or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.pluggy_api.values import day, moment, text
from worker.store.entities import identities
from worker.sync.full_list import Listing
from worker.sync.store_rows import Entity


def identity_row(fields: Mapping[str, Any], _: ZoneInfo) -> dict[str, Any]:
    """Columns of pluggy.identities from an identity's JSON."""
    return {
        "full_name": text(fields.get("fullName")),
        "company_name": text(fields.get("companyName")),
        "document": text(fields.get("document")),
        "document_type": text(fields.get("documentType")),
        "tax_number": text(fields.get("taxNumber")),
        "birth_date": day(fields.get("birthDate")),
        "job_title": text(fields.get("jobTitle")),
        "investor_profile": text(fields.get("investorProfile")),
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
    }


IDENTITIES: Final = Listing(
    entity=Entity(
        product="identities",
        mapper=identity_row,
        version=1,
        load_versions=identities.load_identities_versions,
        upsert=identities.upsert_identities,
    ),
    path="/identity",
    owner_key="itemId",
    absent="404:IDENTITY_NOT_FOUND",
    load_live_ids=identities.load_live_identities_ids,
    tombstone=identities.tombstone_identities,
    is_single=True,
)
