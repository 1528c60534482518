"""Parse webhook bodies into validated events. Pure functions without input or output."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import datetime
from typing import Any, Final

import msgspec

from worker.infra.deep_json import TooMuchNesting, flattened
from worker.infra.lanes import Lane
from worker.infra.parsing import clean_text, parse_time, parse_uuid

MAX_NAME_LENGTH: Final = 120
MAX_EVENT_ID_LENGTH: Final = 200


ITEM_EVENTS: Final = frozenset(
    {
        "item/created",
        "item/updated",
        "item/error",
        "item/deleted",
        "item/waiting_user_input",
        "item/waiting_user_action",
        "item/login_succeeded",
    }
)
TRANSACTION_EVENTS: Final = frozenset(
    {"transactions/created", "transactions/updated", "transactions/deleted"}
)
CONNECTOR_EVENTS: Final = frozenset({"connector/status_updated"})
KNOWN_EVENTS: Final = ITEM_EVENTS | TRANSACTION_EVENTS | CONNECTOR_EVENTS
# Payments are no data of an item; https://docs.pluggy.ai lists them beside the data events.
PAYMENT_PREFIXES: Final = (
    "payment_intent/",
    "payment_request/",
    "payment_refund/",
    "scheduled_payment/",
    "boleto/",
    "automatic_pix_payment/",
    "smart_transfer_preauthorization/",
    "smart_transfer_payment/",
)
OWN_PREFIX: Final = "sync/"
OWN_EVENTS: Final = frozenset(
    {
        "sync/register",
        "sync/missed-webhook-check",
        "sync/recent",
        "sync/verify",
        "sync/unparked",
        "sync/deletions",
        "sync/confirm",
        "sync/accounts",
    }
)

PING: Final = "sync/ping"
"""A delivery that tests the public address: its arrival is recorded, and nothing follows."""
READ_ACCOUNTS: Final = "sync/accounts"
"""The accounts of an item are to be read now: a balance was asked for outside of a collection."""
REFRESHABLE: Final = ["accounts"]

UNKNOWN_EVENT: Final = "unknown_event"
UNREADABLE_ITEM: Final = "unreadable_item_id"
UNREADABLE_CONNECTOR: Final = "unreadable_connector_id"
"""Reasons of events without any usable field; pluggy_ops.worklist counts them."""


class MalformedEvent(ValueError):
    """The body is not a JSON object with an `event` string; the sender gets a 400."""


class WebhookEvent(msgspec.Struct, frozen=True):
    """A delivery ready to be stored: validated ids beside the raw body.

    state is `pending`, or `ignored` with a reason if no work follows. kept: parts of the event
    could not be read; the readable ones are used. expected_rows: the number of rows that the event
    announces, transactionsCount or the length of transactionIds, unreadable ids included.

    A Struct, because a frozen dataclass of so many fields is a third of the time of parsing a body.
    """

    event_id: str
    event: str
    body: bytes
    received_at: datetime
    item_id: uuid.UUID | None = None
    account_id: uuid.UUID | None = None
    transaction_ids: tuple[uuid.UUID, ...] | None = None
    created_at_from: datetime | None = None
    expected_rows: int | None = None
    connector_id: int | None = None
    lane: Lane = Lane.LIVE
    state: str = "pending"
    reason: str | None = None
    kept: bool = False

    @property
    def body_sha256(self) -> bytes:
        """Second part of the key: the same eventId with another body is another event."""
        return hashlib.sha256(self.body).digest()


def parse_webhook(body: bytes, received_at: datetime) -> WebhookEvent:
    """Parse the body of a delivery. Raises MalformedEvent.

    Source: https://docs.pluggy.ai/docs/webhooks. Ids are at the top level; `id` is a deprecated
    alias that newer item events leave out. Links are never read.
    """
    fields = _json_object(body)
    name = fields.get("event")
    if not isinstance(name, str) or not name.strip():
        raise MalformedEvent("no event string")
    name = _known_name(clean_text(name)[:MAX_NAME_LENGTH])
    event_id = _event_id(fields.get("eventId"))
    read = _reader(name)
    details = read(name, fields)
    return WebhookEvent(
        event_id=event_id, event=name, body=body, received_at=received_at, **details
    )


def parse_registration(body: bytes, received_at: datetime) -> WebhookEvent:
    """Parse `{"itemId"}` of an item to register; with `"refresh": ["accounts"]` they are read now.

    Raises MalformedEvent.
    """
    fields = _json_object(body)
    item_id = parse_uuid(fields.get("itemId"))
    if item_id is None:
        raise MalformedEvent("no itemId, or it is no UUID")
    if "refresh" not in fields:
        return registration(item_id, received_at)
    if fields["refresh"] != REFRESHABLE:
        raise MalformedEvent('refresh can only be ["accounts"]')
    return own_event(READ_ACCOUNTS, item_id, lane=Lane.LIVE, now=received_at)


def own_event(
    name: str, item_id: uuid.UUID, *, lane: Lane, now: datetime, event_id: str | None = None
) -> WebhookEvent:
    """An event of our own, for work that no webhook asks for.

    Of events with the same event_id one is stored; without event_id it is always a new event.
    """
    if name not in OWN_EVENTS:
        raise ValueError(f"unknown event of our own: {name}")
    body = json.dumps({"event": name, "itemId": str(item_id)}).encode()
    event_id = event_id or str(uuid.uuid4())
    return WebhookEvent(event_id, name, body, now, item_id=item_id, lane=lane)


def registration(item_id: uuid.UUID, now: datetime, *, lane: Lane = Lane.LIVE) -> WebhookEvent:
    """Our event for a newly connected item; a second one of the same item is a duplicate."""
    event_id = f"register:{item_id}"
    return own_event("sync/register", item_id, lane=lane, now=now, event_id=event_id)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        # Most bodies, in a sixth of the time; numbers without a fraction are integers then.
        fields = _fast_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = _any_json(body)
    if not isinstance(fields, dict):
        raise MalformedEvent("not a JSON object")
    return fields


def _any_json(body: bytes) -> Any:
    """As the standard library parses it: lone surrogates, 1e200000, integers of any length and
    UTF-16 are JSON, and must not refuse an event."""
    try:
        try:
            return _decoded(body)
        except RecursionError:
            # No field that we read is nested deeper than an entry of a list.
            return _decoded(flattened(body, 3))
    except (TooMuchNesting, RecursionError) as error:
        raise MalformedEvent("nested too deeply") from error
    except ValueError as error:
        raise MalformedEvent("not JSON") from error


def _decoded(body: bytes) -> Any:
    return _decoder.decode(body.decode(json.detect_encoding(body), "surrogatepass"))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_fast_decoder: Final = msgspec.json.Decoder()
# json.loads would make one for each body.
_decoder: Final = json.JSONDecoder(parse_constant=_no_constant, parse_int=float)


def _event_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        # Never derived from the body: a later event may have the same bytes.
        return str(uuid.uuid4())
    if len(value) > MAX_EVENT_ID_LENGTH:
        # Index entries have a maximum size, and a redelivery has the same digest.
        return "sha256:" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return clean_text(value)


def _known_name(name: str) -> str:
    """The documented name of an event that differs only in singular or plural."""
    if name in KNOWN_EVENTS:
        return name
    thing, slash, change = name.partition("/")
    for spelling in (thing, f"{thing}s", thing.removesuffix("s")):
        if (known := f"{spelling}{slash}{change}") in KNOWN_EVENTS:
            return known
    return name


def _reader(name: str) -> Any:
    if name in ITEM_EVENTS:
        return _item_details
    if name in TRANSACTION_EVENTS:
        return _transaction_details
    if name in CONNECTOR_EVENTS:
        return _connector_details
    return _other_details


def _item_details(_: str, fields: dict[str, Any]) -> dict[str, Any]:
    # Older deliveries carry the item only as `id`.
    item_id = parse_uuid(fields.get("itemId")) or parse_uuid(fields.get("id"))
    return {"item_id": item_id} if item_id else _unusable(UNREADABLE_ITEM)


def _transaction_details(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Use the readable ids: without transaction ids the account, without account id the item."""
    item_id, account_id = parse_uuid(fields.get("itemId")), parse_uuid(fields.get("accountId"))
    if item_id is None:
        return _unusable(UNREADABLE_ITEM)
    details: dict[str, Any] = {"item_id": item_id, "account_id": account_id}
    details["kept"] = account_id is None
    if name == "transactions/created":
        details["created_at_from"] = parse_time(fields.get("transactionsCreatedAtFrom"))
        details["expected_rows"] = _count(fields.get("transactionsCount"))
        return details
    ids, unreadable = _transaction_ids(fields.get("transactionIds"))
    details["transaction_ids"] = ids or None
    details["expected_rows"] = len(ids) + unreadable
    details["kept"] = account_id is None or unreadable > 0
    return details


def _connector_details(_: str, fields: dict[str, Any]) -> dict[str, Any]:
    # `id` is a string, `connectorId` a number, and either may be missing.
    found = _connector_id(fields.get("connectorId"))
    if found is None:
        found = _connector_id(fields.get("id"))
    return _unusable(UNREADABLE_CONNECTOR) if found is None else {"connector_id": found}


def _other_details(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    if name.startswith(PAYMENT_PREFIXES):
        return {"state": "ignored", "reason": "payment_event"}
    if name == PING:
        return {"state": "ignored", "reason": "ping"}
    item_id = parse_uuid(fields.get("itemId"))
    # Deliveries from outside never trigger our own events.
    if item_id is None or name.startswith(OWN_PREFIX):
        return _unusable(UNKNOWN_EVENT)
    return {"item_id": item_id, "kept": True}


def _unusable(reason: str) -> dict[str, Any]:
    return {"state": "ignored", "reason": reason, "kept": True}


def _count(value: object) -> int | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value <= 2**31 - 1 else None


def _connector_id(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    whole = not isinstance(value, float) or value.is_integer()
    return _count(value) if whole else None


def _transaction_ids(value: object) -> tuple[tuple[uuid.UUID, ...], int]:
    """(readable ids without duplicates, number of unreadable ones); no list counts as one."""
    if not isinstance(value, list) or not value:
        return (), 1
    ids: list[uuid.UUID | None]
    try:
        # All at once if they are well formed: parsing thousands one by one delays other deliveries.
        ids = [*msgspec.convert(value, list[uuid.UUID])]
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter: a lone surrogate
        ids = [parse_uuid(entry) for entry in value]
    return tuple(dict.fromkeys(i for i in ids if i)), ids.count(None)
