"""Rows of an answer as a script keeps them, and the statement that keeps them; all peers share it.

Imports only what the environment of the peers has: see bench/peers/environment.py.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

ZONE: Final = ZoneInfo("America/Sao_Paulo")
COLUMNS: Final = (
    *("item_id", "id", "account_id", "description", "description_raw", "currency_code", "amount"),
    *("amount_in_account_currency", "date", "posted_on", "type", "status", "balance", "category"),
    *("category_id", "provider_code", "provider_id", "operation_type", "payment_method"),
    *("merchant_name", "installment_number", "total_installments", "bill_id", "order_in_day"),
    *("source_created_at", "source_updated_at", "payload", "row_hash", "row_version", "run_id"),
    *("first_seen_at", "changed_at"),
)
SETS: Final = ", ".join(
    f"{c} = excluded.{c}" for c in COLUMNS if c not in ("item_id", "id", "first_seen_at")
)
UPSERT: Final = (
    f"INSERT INTO pluggy.transactions ({', '.join(COLUMNS)})"  # noqa: S608 - constants
    f" VALUES ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))})"
    f" ON CONFLICT (item_id, id) DO UPDATE SET {SETS}"
)
"""As asyncpg takes it."""
OVERLAP: Final = timedelta(hours=1)
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS script_items (id uuid PRIMARY KEY, payload jsonb NOT NULL);
CREATE TABLE IF NOT EXISTS script_accounts (
    item_id uuid, id uuid, payload jsonb NOT NULL, PRIMARY KEY (item_id, id)
)
"""
ITEM: Final = """
INSERT INTO script_items VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET payload = excluded.payload
"""
ACCOUNT: Final = """
INSERT INTO script_accounts VALUES ($1, $2, $3)
ON CONFLICT (item_id, id) DO UPDATE SET payload = excluded.payload
"""
NEWEST: Final = (
    "SELECT max(source_created_at) FROM pluggy.transactions WHERE item_id = $1 AND account_id = $2"
)


def of_psycopg(statement: str) -> str:
    """The statement with psycopg's placeholders."""
    return re.sub(r"\$[0-9]+", "%s", statement)


def since(newest: datetime) -> str:
    """The createdAtFrom of a delta: the newest row's time less an hour."""
    return (newest - OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class RawList(msgspec.Struct):
    results: list[msgspec.Raw]


_lists = msgspec.json.Decoder(RawList)
_rows = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def mapped(item_id: uuid.UUID, body: bytes) -> list[tuple[Any, ...]]:
    """The rows of an answer in the order of COLUMNS."""
    now = datetime.now(UTC)
    return [
        row_of(item_id, _rows.decode(raw), bytes(raw), now) for raw in _lists.decode(body).results
    ]


def row_of(
    item_id: uuid.UUID, row: dict[str, Any], payload: bytes, now: datetime
) -> tuple[Any, ...]:
    """A transaction in the order of COLUMNS; ids and times may be text or read already."""
    at, card = _time(row["date"]), row.get("creditCardMetadata") or {}
    bill = card.get("billId")
    return (
        *(item_id, _id(row["id"]), _id(row["accountId"]), row.get("description")),
        *(row.get("descriptionRaw"), row.get("currencyCode"), _money(row["amount"])),
        *(_money(row.get("amountInAccountCurrency")), at, _day(at), row.get("type")),
        *(row.get("status") or "POSTED", _money(row.get("balance")), row.get("category")),
        *(row.get("categoryId"), row.get("providerCode"), row.get("providerId")),
        *(row.get("operationType"), (row.get("paymentData") or {}).get("paymentMethod")),
        *((row.get("merchant") or {}).get("name"), card.get("installmentNumber")),
        *(card.get("totalInstallments"), _id(bill) if bill else None, row.get("order")),
        *(_time(row["createdAt"]), _time(row["updatedAt"]), payload.decode()),
        *(blake2b(payload, digest_size=16).digest(), 1, 1, now, now),
    )


def _id(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _time(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _day(at: datetime) -> date:
    return (at if at.hour == at.minute == at.second == 0 else at.astimezone(ZONE)).date()


def _money(value: Any) -> Any:
    return value if value is None or isinstance(value, Decimal) else Decimal(str(value))
