"""Parsing webhook bodies: fields that are read, and bodies that are refused."""

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from worker.inbox.events import (
    CONNECTOR_EVENTS,
    ITEM_EVENTS,
    PAYMENT_PREFIXES,
    TRANSACTION_EVENTS,
    MalformedEvent,
    WebhookEvent,
    own_event,
    parse_registration,
    parse_webhook,
    registration,
)
from worker.infra.lanes import Lane
from worker.infra.parsing import clean_text, parse_time, parse_uuid

AT = datetime(2026, 3, 15, 12, tzinfo=UTC)
ITEM = uuid.UUID("1111aaaa-2222-4333-8444-555555555555")
ACCOUNT = uuid.UUID("aaaaaaaa-2222-4333-8444-555555555555")
ROWS = [uuid.UUID(int=n) for n in range(1, 4)]


def read(name: str = "item/updated", **fields: Any) -> WebhookEvent:
    body = {"event": name, "eventId": "e-1", "itemId": str(ITEM)} | fields
    return parse_webhook(json.dumps(body).encode(), AT)


def read_bytes(body: bytes) -> WebhookEvent:
    return parse_webhook(body, AT)


@pytest.mark.parametrize("name", sorted(ITEM_EVENTS))
def test_an_item_event_names_its_item(name: str) -> None:
    event = read(name)
    assert (event.event, event.item_id, event.state, event.lane) == (
        name,
        ITEM,
        "pending",
        Lane.LIVE,
    )


def test_an_older_item_event_names_its_item_as_id() -> None:
    event = read(itemId=None, id=str(ITEM))
    assert (event.item_id, event.kept) == (ITEM, False)


def test_the_itemid_counts_where_both_are_given() -> None:
    assert read(id=str(uuid.uuid4())).item_id == ITEM


def test_transactions_created_says_from_when_and_how_many() -> None:
    event = read(
        "transactions/created",
        accountId=str(ACCOUNT),
        transactionsCreatedAtFrom="2026-03-14T09:30:00.123Z",
        transactionsCount=12,
        createdTransactionsLink="https://elsewhere.example/transactions",
    )
    assert event.account_id == ACCOUNT
    assert event.created_at_from == datetime(2026, 3, 14, 9, 30, 0, 123_000, UTC)
    assert event.expected_rows == 12


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"transactionsCreatedAtFrom": "soon", "transactionsCount": "many"},
        {"transactionsCreatedAtFrom": 17, "transactionsCount": -1},
        {"transactionsCreatedAtFrom": None, "transactionsCount": True},
        {"transactionsCreatedAtFrom": [], "transactionsCount": 2**31},
    ],
)
def test_transactions_created_needs_only_its_ids(fields: dict[str, Any]) -> None:
    event = read("transactions/created", accountId=str(ACCOUNT), **fields)
    assert (event.state, event.created_at_from, event.expected_rows) == ("pending", None, None)


@pytest.mark.parametrize("name", ["transactions/updated", "transactions/deleted"])
def test_transactions_events_name_their_rows_once_each(name: str) -> None:
    ids = [str(row) for row in [*ROWS, ROWS[0]]]
    assert read(name, accountId=str(ACCOUNT), transactionIds=ids).transaction_ids == tuple(ROWS)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("item/updated", {"itemId": "17"}, "unreadable_item_id"),
        ("item/updated", {"itemId": None}, "unreadable_item_id"),
        ("transactions/created", {"itemId": {}, "accountId": str(ACCOUNT)}, "unreadable_item_id"),
        ("transactions/renamed", {"itemId": None}, "unknown_event"),
        ("item/all", {"itemId": "17", "id": str(ITEM)}, "unknown_event"),
        ("sync/verify", {}, "unknown_event"),
        ("sync/of_tomorrow", {}, "unknown_event"),
        ("connector/status_updated", {"connectorId": "x"}, "unreadable_connector_id"),
    ],
)
def test_events_with_nothing_usable_are_kept_with_their_reason(
    name: str, fields: dict[str, Any], reason: str
) -> None:
    event = read(name, **fields)
    assert (event.state, event.reason, event.kept) == ("ignored", reason, True)


@pytest.mark.parametrize(
    "name", ["transactions/renamed", "item/all", "account/gone", " item/updated"]
)
def test_an_unknown_name_makes_the_item_due_that_it_names(name: str) -> None:
    event = read(name)
    assert (event.event, event.item_id, event.state, event.kept) == (name, ITEM, "pending", True)


@pytest.mark.parametrize("name", sorted(TRANSACTION_EVENTS))
@pytest.mark.parametrize("account_id", [None, 5, "x", {}])
def test_without_a_readable_account_the_item_is_left(name: str, account_id: object) -> None:
    event = read(name, accountId=account_id, transactionIds=[str(ROWS[0])])
    assert (event.item_id, event.account_id, event.state) == (ITEM, None, "pending")
    assert event.kept


@pytest.mark.parametrize("name", ["transactions/updated", "transactions/deleted"])
@pytest.mark.parametrize(
    ("ids", "readable", "named"),
    [
        (None, (), 1),
        ([], (), 1),
        ("x", (), 1),
        ([None, 5, "x", {}], (), 4),
        ([str(ROWS[0]), "x", str(ROWS[1]), str(ROWS[0])], tuple(ROWS[:2]), 3),
    ],
)
def test_of_ids_those_that_can_be_read_are_used_and_the_others_counted(
    name: str, ids: object, readable: tuple[uuid.UUID, ...], named: int
) -> None:
    event = read(name, accountId=str(ACCOUNT), transactionIds=ids)
    assert (event.state, event.kept) == ("pending", True)
    assert (event.transaction_ids or (), event.expected_rows) == (readable, named)


def test_an_id_that_is_no_text_for_a_parser_hides_no_others() -> None:
    ids = [str(uuid.UUID(int=1)), "\ud800", str(uuid.UUID(int=2))]
    event = read("transactions/deleted", accountId=str(ACCOUNT), transactionIds=ids)
    assert event.transaction_ids == (uuid.UUID(int=1), uuid.UUID(int=2))
    assert event.kept


@pytest.mark.parametrize("count", [1, 200, 5_003, 100_000])
def test_any_number_of_ids_is_read(count: int) -> None:
    ids = [str(uuid.UUID(int=n)) for n in range(count)]
    event = read("transactions/deleted", accountId=str(ACCOUNT), transactionIds=ids)
    assert event.transaction_ids == tuple(map(uuid.UUID, ids))
    assert (event.expected_rows, event.kept, event.state) == (count, False, "pending")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("transaction/created", "transactions/created"),
        ("transaction/updated", "transactions/updated"),
        ("transaction/deleted", "transactions/deleted"),
        ("items/updated", "item/updated"),
        ("items/deleted", "item/deleted"),
        ("connectors/status_updated", "connector/status_updated"),
    ],
)
def test_a_name_in_the_other_number_is_read_as_what_it_means(written: str, meant: str) -> None:
    ids = {"accountId": str(ACCOUNT), "transactionIds": [str(ROWS[0])], "connectorId": 201}
    event = read(written, **ids)
    assert (event.event, event.state, event.kept) == (meant, "pending", False)


@pytest.mark.parametrize(
    "name",
    [
        "payment_intent/created",
        "payment_request/updated",
        "payment_refund/error",
        "scheduled_payment/all_created",
        "boleto/updated",
        "automatic_pix_payment/canceled",
        "smart_transfer_preauthorization/completed",
        "smart_transfer_payment/error",
    ],
)
def test_payment_events_are_ignored_and_not_kept(name: str) -> None:
    event = read(name)
    assert (event.state, event.reason, event.kept) == ("ignored", "payment_event", False)
    assert any(name.startswith(prefix) for prefix in PAYMENT_PREFIXES)


def test_known_events_are_read_by_name_only() -> None:
    names = ITEM_EVENTS | TRANSACTION_EVENTS
    assert all(
        read(name.upper()).kept and not read(name).kept for name in names - TRANSACTION_EVENTS
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"event": "item/updated\xff"}', "not JSON"),
        (b'{"event": "item/updated", "x": NaN}', "not JSON"),
        (b'{"event": "item/updated", "x": -Infinity}', "not JSON"),
        (b'{"event": "item/updated"} {}', "not JSON"),
        (b'{"event": "item/updated", "x": "\x00"}', "not JSON"),
        (b"[" * 100_000, "nested"),
        (b"[]", "not a JSON object"),
        (b'"item/updated"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "no event string"),
        (b'{"event": null}', "no event string"),
        (b'{"event": 3}', "no event string"),
        (b'{"event": ""}', "no event string"),
        (b'{"event": "  "}', "no event string"),
        (b'{"event": ["item/updated"]}', "no event string"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(MalformedEvent, match=why):
        read_bytes(body)


@pytest.mark.parametrize(
    "odd",
    [
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\\udfff\\ud800"',
        b"1e200000",
        b"-1e-200000",
        b"1" * 5000,
        b'{"a": 1, "a": 2}',
        b"[" * 300 + b"]" * 300,
    ],
)
def test_odd_json_beside_the_ids_refuses_no_event(odd: bytes) -> None:
    body = b'{"event": "item/updated", "itemId": "%s", "odd": %s}' % (str(ITEM).encode(), odd)
    event = read_bytes(body)
    assert (event.item_id, event.state, event.body) == (ITEM, "pending", body)


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    body = f'{{"event": "item/created", "event": "item/updated", "itemId": "{ITEM}"}}'
    assert read_bytes(body.encode()).event == "item/updated"


@pytest.mark.parametrize("event_id", [None, "", 17, ["e"], {"a": 1}])
def test_an_event_without_id_gets_a_fresh_one_each_time(event_id: object) -> None:
    first, second = read(eventId=event_id), read(eventId=event_id)
    assert first.body == second.body
    assert first.event_id != second.event_id
    assert uuid.UUID(first.event_id).version == 4


def test_a_very_long_event_id_keeps_its_identity_in_few_characters() -> None:
    long = "e" * 100_000
    first, again, other = read(eventId=long), read(eventId=long), read(eventId=long + "e")
    assert first.event_id == again.event_id != other.event_id
    assert len(first.event_id) < 100


def test_names_and_ids_hold_nothing_that_postgres_refuses() -> None:
    event = read("odd\u0000\ud800name", eventId="\u0000\udfff")
    assert (event.event, event.event_id) == ("odd\ufffd\ufffdname", "\ufffd\ufffd")


def test_a_long_name_is_cut() -> None:
    assert read("x" * 10_000).event == "x" * 120


def test_the_same_id_with_another_body_has_another_key() -> None:
    first, second = read(), read(triggeredBy="SYNC")
    assert first.event_id == second.event_id
    assert first.body_sha256 != second.body_sha256


def test_a_registration_of_the_same_item_has_the_same_key() -> None:
    first = parse_registration(json.dumps({"itemId": str(ITEM)}).encode(), AT)
    again = registration(ITEM, AT + timedelta(days=1))
    assert (first.event_id, first.body_sha256) == (again.event_id, again.body_sha256)
    assert (first.event, first.item_id, first.lane) == ("sync/register", ITEM, Lane.LIVE)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"itemId": 5}', b'{"itemId": "x"}', b'{"itemId": NaN}', b"[" * 100_000],
)
def test_a_registration_without_a_readable_item_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse_registration(body, AT)


def test_each_event_of_our_own_is_another_one() -> None:
    first, second = (own_event("sync/verify", ITEM, lane=Lane.AUDIT, now=AT) for _ in range(2))
    assert first.event_id != second.event_id
    assert (first.item_id, first.lane, first.state) == (ITEM, Lane.AUDIT, "pending")


def test_only_known_events_of_our_own_are_made() -> None:
    with pytest.raises(ValueError, match="unknown event"):
        own_event("item/updated", ITEM, lane=Lane.LIVE, now=AT)


@pytest.mark.parametrize(
    "written", [str(ITEM), str(ITEM).upper(), ITEM.hex, f"{ITEM.hex[:20]}-{ITEM.hex[20:]}"]
)
def test_a_uuid_is_read_in_its_usual_spellings(written: str) -> None:
    assert parse_uuid(written) == ITEM


@pytest.mark.parametrize(
    "written",
    [
        "",
        "0x" + "1" * 30,
        "1_" * 16,
        " " + "1" * 31,
        "\u0661" * 32,
        f"{ITEM}\n",
        f"{{{ITEM}}}",
        str(ITEM)[:-1],
        str(ITEM) + "0" * 1_000,
        "\ud800" * 36,
        ITEM.int,
        None,
        ITEM,
    ],
)
def test_what_only_looks_like_a_uuid_is_none(written: object) -> None:
    assert parse_uuid(written) is None


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-14, 14),
)
def test_a_time_is_the_same_moment_in_any_zone(moment: datetime, hours: int) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    assert parse_time(elsewhere.isoformat()) == moment
    assert parse_time(elsewhere.isoformat().replace("+00:00", "Z")) == moment


@given(st.text() | st.none() | st.integers() | st.floats())
def test_a_time_is_utc_or_none_whatever_is_written(written: object) -> None:
    parsed = parse_time(written)
    assert parsed is None or parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        "0001-01-01T00:00:00+01:00",
        "0001-01-01T00:00:00Z",
        "0001-01-01",
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:59.999999Z",
    ],
)
def test_a_time_beyond_or_at_the_ends_of_the_calendar_is_none(written: str) -> None:
    assert parse_time(written) is None


any_text = st.text(st.characters() | st.sampled_from("\x00\ud800\udbff\udc00\udfff"))


@given(any_text)
def test_clean_text_replaces_only_what_postgres_refuses(text: str) -> None:
    expected = "".join(
        "\ufffd" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in joined(text)
    )
    assert clean_text(text) == expected


def joined(text: str) -> str:
    """A pair of surrogates is one character, as in JSON's escapes."""
    out = ""
    for c in text:
        if out and "\ud800" <= out[-1] <= "\udbff" and "\udc00" <= c <= "\udfff":
            pair = 0x10000 + ((ord(out[-1]) & 0x3FF) << 10 | ord(c) & 0x3FF)
            out = out[:-1] + chr(pair)
        else:
            out += c
    return out


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([*sorted(ITEM_EVENTS | TRANSACTION_EVENTS), "boleto/updated"]) | any_text
keys = ["eventId", "itemId", "id", "accountId", "transactionIds", "transactionsCount"]


@given(names, st.dictionaries(st.sampled_from(keys), json_values))
def test_any_json_object_with_a_name_is_an_event(name: str, fields: dict[str, Any]) -> None:
    body = json.dumps(fields | {"event": name}).encode()
    if not name.strip() or b"NaN" in body or b"Infinity" in body:
        return
    event = read_bytes(body)
    assert event.body == body
    assert event.event == clean_text(name)[:120]
    assert (event.state == "ignored") <= (event.reason is not None)
    assert (event.state == "pending") == (event.item_id is not None)
    event.event_id.encode()


@given(
    names,
    st.dictionaries(
        st.sampled_from([*keys, "connectorId", "transactionsCreatedAtFrom"]), json_values
    ),
)
def test_an_event_is_read_alike_beside_what_few_parsers_take(
    name: str, fields: dict[str, Any]
) -> None:
    body = json.dumps({"eventId": "one"} | fields | {"event": name}).encode()
    if not name.strip() or b"NaN" in body or b"Infinity" in body:
        return
    strange = body[:-1] + b', "beside": [1e200000, "\\udfff"]}'
    assert read_as_stored(strange) == read_as_stored(body)


def read_as_stored(body: bytes) -> WebhookEvent:
    """Without its body, and without an eventId that is drawn for it."""
    event = read_bytes(body)
    drawn = len(event.event_id) == len(str(ITEM))
    return replace(event, body=b"", event_id="" if drawn else event.event_id)


@pytest.mark.parametrize(
    ("sent", "read"), [("3", 3), ("3.0", 3), ("true", None), ('"3"', None), ("9" * 400, None)]
)
def test_a_number_of_rows_is_a_number(sent: str, read: int | None) -> None:
    event = read_bytes(
        b'{"event": "transactions/created", "itemId": "%b", "transactionsCount": %b}'
        % (str(ITEM).encode(), sent.encode())
    )
    assert event.expected_rows == read


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(body: bytes) -> None:
    try:
        event = read_bytes(body)
    except MalformedEvent:
        return
    assert event.body == body


def test_the_page_of_events_names_every_event_that_is_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    table = page.partition("## What each event leads to")[2].partition("\n## ")[0]
    known = ITEM_EVENTS | TRANSACTION_EVENTS | CONNECTOR_EVENTS
    assert [name for name in known if f"`{name}`" not in table] == []
    assert [name for name in PAYMENT_PREFIXES if f"`{name}*`" not in table] == []


@pytest.mark.parametrize("depth", [900, 3_000, 100_000])
def test_what_is_nested_deep_beside_them_hides_no_ids(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    body = json.dumps(
        {
            "event": "transactions/updated",
            "itemId": str(ITEM),
            "accountId": str(ACCOUNT),
            "transactionIds": [str(row) for row in ROWS],
        }
    ).encode()
    found = read_bytes(body[:-1] + b', "deep": ' + deep + b"}")
    assert (found.item_id, found.account_id) == (ITEM, ACCOUNT)
    assert found.transaction_ids == tuple(ROWS)
