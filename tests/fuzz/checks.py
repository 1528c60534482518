"""What must hold of any input: read rightly, or refused by name."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from worker.entities.accounts import account_row
from worker.entities.bills import bill_row
from worker.entities.consents import consent_row
from worker.entities.identities import identity_row
from worker.entities.investments import investment_row
from worker.entities.loans import loan_row
from worker.entities.transactions import transaction_row
from worker.inbox.events import (
    MAX_NAME_LENGTH,
    TRANSACTION_EVENTS,
    MalformedEvent,
    WebhookEvent,
    parse_registration,
    parse_webhook,
)
from worker.planner.item_status import read_item
from worker.pluggy_api.payloads import (
    Unreadable,
    clean_json,
    decode_envelope,
    decode_error,
    decode_object,
)
from worker.pluggy_api.values import UnreadableRow

ZONE: Final = ZoneInfo("America/Sao_Paulo")
NOW: Final = datetime(2026, 5, 1, tzinfo=UTC)
MAPPERS: Final[Mapping[str, Callable[[Mapping[str, Any], ZoneInfo], dict[str, Any]]]] = {
    "transactions": transaction_row,
    "accounts": account_row,
    "bills": bill_row,
    "consents": consent_row,
    "identities": identity_row,
    "investments": investment_row,
    "loans": loan_row,
}


def delivery(body: bytes) -> None:
    """A webhook is an event that Postgres can store, with the ids that stand in it, or none."""
    with contextlib.suppress(MalformedEvent):
        registered = parse_registration(body, NOW)
        assert registered.item_id is not None
    try:
        event = parse_webhook(body, NOW)
    except MalformedEvent as error:
        quotes_nothing(error)
        return
    storable(event)
    assert event.body == body
    try:
        fields = json.loads(body, parse_int=float)
    except RecursionError:
        return  # deeper than this reader goes; its ids are read all the same
    if event.item_id is not None:
        assert str(event.item_id).replace("-", "") in _flat(fields.get("itemId"), fields.get("id"))
    if event.account_id is not None and event.event in TRANSACTION_EVENTS:
        assert str(event.account_id).replace("-", "") in _flat(fields["accountId"])


def quotes_nothing(error: ValueError) -> None:
    """Its sentence is sent back or logged: nothing of the input may stand in it."""
    assert len(str(error)) < 60


def _flat(*written: object) -> set[str]:
    return {text.replace("-", "").lower() for text in written if isinstance(text, str)}


def storable(event: WebhookEvent) -> None:
    for text in (event.event, event.event_id):
        assert "\x00" not in text
        assert text.encode().decode() == text
    assert 0 < len(event.event) <= MAX_NAME_LENGTH
    assert 0 < len(event.event_id) <= 200
    assert event.state in ("pending", "ignored")
    assert (event.state == "ignored") == (event.reason is not None)
    assert len(event.transaction_ids or ()) <= len(event.body) / 34
    assert event.connector_id is None or 0 <= event.connector_id < 2**31
    assert event.expected_rows is None or 0 <= event.expected_rows < 2**31
    assert event.created_at_from is None or event.created_at_from.tzinfo is UTC


def pluggy_answer(body: bytes) -> None:
    """A list answer is an envelope whose rows are read or refused one by one, or it is refused."""
    cleaned = clean_json(body)
    assert clean_json(cleaned) == cleaned
    assert cleaned.decode().encode() == cleaned
    for shown in decode_error(body):
        assert shown is None or 0 < len(shown) <= 120
    try:
        envelope = decode_envelope(body)
    except Unreadable:
        return
    assert len(envelope.results) < 100
    for raw in envelope.results:
        one_row(bytes(raw))


def one_row(raw: bytes) -> None:
    """A row is mapped or refused by every mapper; its money is what was written, to the digit."""
    try:
        fields = decode_object(clean_json(raw))
    except Unreadable:
        return
    read_item(fields, is_open_finance=True)
    for mapper in MAPPERS.values():
        try:
            columns = mapper(fields, ZONE)
        except UnreadableRow as error:
            quotes_nothing(error)
            continue
        for value in columns.values():
            assert not isinstance(value, float)
            assert not (isinstance(value, Decimal) and not value.is_finite())


def stored(raw: bytes, payload: str, columns: Mapping[str, Any]) -> None:
    """A row in Postgres is the row that was sent: the payload by value, money to the digit."""
    # Not int: Python reads none of more than 4300 digits.
    sent = json.loads(clean_json(raw), parse_float=Decimal, parse_int=Decimal)
    assert _same(json.loads(payload, parse_float=Decimal, parse_int=Decimal), sent)
    assert columns["id"] == uuid.UUID(sent["id"])
    if "amount" in columns and isinstance(sent.get("amount"), Decimal):
        assert columns["amount"] == sent["amount"]
    if "description" in columns and isinstance(sent.get("description"), str):
        assert columns["description"] == sent["description"]


def _same(stored: object, sent: object) -> bool:
    """Equal as JSON: jsonb writes numbers its own way, and 1.0 is 1 but not true."""
    if isinstance(stored, dict) and isinstance(sent, dict):
        return stored.keys() == sent.keys() and all(_same(stored[k], sent[k]) for k in stored)
    if isinstance(stored, list) and isinstance(sent, list):
        return len(stored) == len(sent) and all(map(_same, stored, sent))
    if isinstance(stored, bool) or isinstance(sent, bool):
        return stored is sent
    return stored == sent
