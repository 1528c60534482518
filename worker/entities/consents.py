"""Consents: what a person has permitted at an Open Finance connector, a complete list by item."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Listing, Scope
from worker.pluggy_api.known_fields import PRODUCT_NAMES
from worker.pluggy_api.values import mapper
from worker.store.entities import consents

consent_row: Final = mapper(
    texts="products permissions=openFinancePermissionsGranted",
    moment="expires_at revoked_at source_created_at=createdAt",
)
"""Columns of pluggy.consents from a consent's JSON."""


KNOWN_FIELDS: Final = f"""
    id itemId {PRODUCT_NAMES} createdAt updatedAt expiresAt revokedAt
    openFinancePermissionsGranted=REGISTRATION_ALL|REGISTRATION_IDENTIFICATIONS
    |REGISTRATION_QUALIFICATIONS|REGISTRATION_FINANCIAL_RELATIONS|ACCOUNTS_ALL|ACCOUNTS_LIST
    |ACCOUNTS_BALANCES|ACCOUNTS_LIMITS|ACCOUNTS_TRANSACTIONS|CREDIT_CARDS_ALL|CREDIT_CARDS_LIST
    |CREDIT_CARDS_LIMITS|CREDIT_CARDS_TRANSACTIONS|CREDIT_CARDS_BILLS|CREDIT_OPERATIONS_ALL
    |INVESTMENTS_ALL|EXCHANGES_ALL
"""

ENTITY: Final = Listing(
    product="consents",
    order=8,
    known_fields=KNOWN_FIELDS,
    scope=Scope.ITEM_WITH_CONSENTS,
    path="/consents?itemId={owner}",
    row_path="/consents/{id}",
    owner_key="itemId",
    absent="404:CONSENT_NOT_FOUND",
    rechecks_first=True,
    mapper=consent_row,
    version=1,
    load_versions=consents.load_consents_versions,
    upsert=consents.upsert_consents,
    load_live=consents.load_live_consents,
    tombstone=consents.tombstone_consents,
)
