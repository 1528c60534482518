"""Consents: the permission that a person gave to a connection."""

from simulator.bank.history import new_id
from simulator.clock import DAY_MS, iso, iso_or_none
from simulator.items.item import Item, Payload

_RENEWED_FOR_MS = 365 * DAY_MS
_PERMISSIONS = ["ACCOUNTS_ALL", "CREDIT_CARDS_ALL", "REGISTRATION_ALL"]


def consent(item: Item, now_ms: int) -> Payload:
    has_permissions = item.open_finance or item.inner_id is not None
    return {
        "id": new_id(item.random),
        "itemId": item.inner_id or item.id,
        "products": item.products,
        "openFinancePermissionsGranted": _PERMISSIONS if has_permissions else [],
        "createdAt": iso(now_ms),
        "expiresAt": iso_or_none(item.consent_expires),
        "revokedAt": None,
    }


def withdraw(item: Item, how: str, now_ms: int) -> None:
    """End the consent (revoked or expired): the item's data is withheld from now on."""
    item.withheld = True
    shown = {"revokedAt": iso(now_ms)}
    if how == "expired":
        item.consent_expires = min(item.consent_expires or now_ms - 1000, now_ms - 1000)
        shown = {"expiresAt": iso(item.consent_expires)}
    for consent_id, stored in item.consents.items():
        item.consents[consent_id] = stored | shown


def renew(item: Item, now_ms: int) -> None:
    item.withheld = False
    if item.consent_expires is not None:
        item.consent_expires = now_ms + _RENEWED_FOR_MS
    for consent_id, stored in item.consents.items():
        item.consents[consent_id] = stored | {
            "revokedAt": None,
            "expiresAt": iso_or_none(item.consent_expires),
        }
