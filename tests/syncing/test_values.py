"""Pluggy's values as column values."""

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stack import Stack
from worker.entities.transactions import transaction_row
from worker.infra.postgres import Pool
from worker.maintenance.reference_data import refresh_reference_data
from worker.pluggy_api.payloads import decode_object
from worker.pluggy_api.values import (
    MAX_INTEGER,
    UnreadableRow,
    day,
    inner,
    integer,
    money,
    posted_on,
    text,
)

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
zones = st.sampled_from(
    [SAO_PAULO, ZoneInfo("UTC"), ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Noronha")]
)
days = st.dates(date(1, 1, 2), date(9999, 12, 30))
amounts = st.decimals(allow_nan=False, allow_infinity=False)
# All that msgspec makes of JSON.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


# Money


@given(amounts, st.sampled_from(["number", "text"]))
def test_money_is_the_number_that_is_written(amount: Decimal, way: str) -> None:
    written = f"{amount:e}"
    body = f'{{"a": {written}}}' if way == "number" else json.dumps({"a": written})
    found = money(decode_object(body.encode())["a"])
    assert found is not None
    assert found.as_tuple() == amount.as_tuple()


@given(st.integers(-(10**40), 10**40))
def test_whole_amounts_are_exact_at_any_length(cents: int) -> None:
    assert money(cents) == cents
    assert money(str(cents)) == cents


@pytest.mark.parametrize("written", ["0.0039", "1234567890.12", "-1234567890.12", "0.1", "-0.00"])
async def test_money_reaches_postgres_digit_by_digit(db: Pool, written: str) -> None:
    amount = money(decode_object(f'{{"a": {written}}}'.encode())["a"])
    assert await db.fetchval("SELECT ($1::numeric)::text", amount) == written.replace(
        "-0.00", "0.00"
    )


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "ten",
        "1,50",
        "1.234,56",
        "1_000",
        "\u0661\u0662",
        "0x10",
        " 12",
        "12\n",
        ".5",
        "5.",
        "+5",
        "NaN",
        "sNaN",
        "Infinity",
        "-Infinity",
        "1e99999999999999999999",
        True,
        False,
        None,
        [],
        {},
        Decimal("NaN"),
        Decimal("Infinity"),
    ],
)
def test_what_is_no_amount_is_none(written: object) -> None:
    assert money(written) is None


@given(json_values)
def test_money_is_finite_or_none_whatever_comes(value: Any) -> None:
    found = money(value)
    assert found is None or found.is_finite()


@given(
    json_values
    | amounts.map(str)
    | st.integers(-(10**7), 10**7).map(lambda exponent: Decimal((0, (1, 5), exponent)))
)
def test_an_integer_fits_its_column_or_is_none_whatever_comes(value: Any) -> None:
    found = integer(value)
    assert found is None or abs(found) <= MAX_INTEGER


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        ("3", 3),
        (Decimal("3.0"), 3),
        (Decimal("3e2"), 300),
        (Decimal("3.5"), None),
        (MAX_INTEGER, MAX_INTEGER),
        (-MAX_INTEGER, -MAX_INTEGER),
        (MAX_INTEGER + 1, None),
        (Decimal("1e1000001"), None),
        (Decimal("1e-1000001"), None),
        (True, None),
        ("three", None),
    ],
    ids=repr,
)
def test_an_integer_is_whole(value: object, expected: int | None) -> None:
    assert integer(value) == expected


# Days


@given(days, zones)
def test_a_day_without_time_or_zone_is_taken_as_written(day: date, zone: ZoneInfo) -> None:
    assert posted_on(day.isoformat(), zone) == day


@given(days, st.times(), zones)
def test_a_time_without_zone_is_of_the_day_as_written(day: date, at: time, zone: ZoneInfo) -> None:
    assert posted_on(datetime.combine(day, at).isoformat(), zone) == day


@given(days, zones, st.sampled_from(["T00:00:00.000Z", "T00:00:00Z", "T00:00:00.000+00:00"]))
def test_exactly_midnight_utc_is_a_day_as_written(day: date, zone: ZoneInfo, rest: str) -> None:
    assert posted_on(f"{day.isoformat()}{rest}", zone) == day
    assert posted_on(f" {day.isoformat()}{rest}\n", zone) == day


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 - its zone follows
    st.integers(-14 * 4, 14 * 4),
    zones,
)
def test_any_other_moment_is_of_the_day_that_it_has_in_the_zone(
    at: datetime, quarters: int, zone: ZoneInfo
) -> None:
    written = at.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)))
    if quarters == 0 and at.time() == time(0):
        return
    assert posted_on(written.isoformat(), zone) == written.astimezone(zone).date()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-03-15T00:00:00.000Z", date(2026, 3, 15)),
        ("2026-03-15T03:00:00.000Z", date(2026, 3, 15)),
        ("2026-03-15T02:59:59.999Z", date(2026, 3, 14)),
        ("2026-03-15T00:00:00.001Z", date(2026, 3, 14)),
        ("2026-03-15T14:31:07.123Z", date(2026, 3, 15)),
        ("2026-03-15T00:00:00", date(2026, 3, 15)),
        ("2026-03-15T23:59:59", date(2026, 3, 15)),
        ("2026-03-15", date(2026, 3, 15)),
        ("2026-03-14T23:00:00-03:00", date(2026, 3, 14)),
        # Summer time, as Brazil had it until 2019.
        ("2018-12-15T02:30:00.000Z", date(2018, 12, 15)),
    ],
)
def test_days_in_brazil(written: str, expected: date) -> None:
    assert posted_on(written, SAO_PAULO) == expected


@pytest.mark.parametrize(
    "written", [None, 17, "", "soon", "2026-02-30", "0001-01-01T00:00:01Z", ["2026-03-15"]]
)
def test_a_row_without_a_readable_date_is_unreadable(written: object) -> None:
    with pytest.raises(UnreadableRow, match="date"):
        posted_on(written, SAO_PAULO)


@given(json_values | st.datetimes(timezones=st.timezones()).map(lambda d: d.isoformat()), zones)
def test_any_value_is_a_day_or_unreadable(value: Any, zone: ZoneInfo) -> None:
    try:
        found = posted_on(value, zone)
    except UnreadableRow:
        return
    assert isinstance(found, date)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-03-15", date(2026, 3, 15)),
        ("2026-03-15T23:59:59.999Z", date(2026, 3, 15)),
        ("2026-03-15T00:00:00-03:00", date(2026, 3, 15)),
        ("15/03/2026", None),
        ("", None),
        (20260315, None),
        (None, None),
    ],
    ids=repr,
)
def test_a_calendar_date_is_taken_as_written(written: object, expected: date | None) -> None:
    assert day(written) == expected


# Times


async def test_postgres_reads_times_of_any_year(db: Pool) -> None:
    for year in (1, 999, 1970, 9999):
        at = datetime(year, 5, 6, 7, 8, 9, 123_000, UTC)
        written = msgspec.json.decode(msgspec.json.encode(at), type=str)
        assert await db.fetchval("SELECT ($1::text)::timestamptz", written) == at


# Text and what is required


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("a", "a"),
        (5411, "5411"),
        (Decimal("5411.0"), "5411.0"),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
    ],
    ids=repr,
)
def test_text_is_a_string_or_a_number_s_digits(value: object, expected: str | None) -> None:
    assert text(value) == expected


def test_what_is_no_object_has_nothing_inside() -> None:
    assert inner({"a": {"b": 1}}, "a") == {"b": 1}
    assert [inner({"a": value}, "a") for value in (None, 1, "x", [1])] == [{}] * 4
    assert inner({}, "a") == {}


def test_what_a_row_needs_is_there_or_named_without_its_value() -> None:
    fields = {"accountId": str(uuid.UUID(int=1)), "amount": Decimal("1.5"), "date": "2026-03-15"}
    row = transaction_row(fields, SAO_PAULO)
    assert row["account_id"] == uuid.UUID(int=1)
    assert (row["amount"], row["date"]) == (Decimal("1.5"), datetime(2026, 3, 15, tzinfo=UTC))
    for name in fields:
        with pytest.raises(UnreadableRow, match=f"^{name} is no [a-zA-Z]+$"):
            transaction_row(fields | {name: "private"}, SAO_PAULO)


async def test_a_bill_without_a_month_and_categories_of_nine_digits_are_mirrored(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=300, accounts=2, connectorId=601)
    rows = await stack.truth(item["id"])
    months = [(row["creditCardMetadata"] or {}).get("billForecastDate") for row in rows.values()]
    assert "0001-01" in months
    await stack.assert_equal(item["id"])
    while await refresh_reference_data(stack.db, stack.client):
        pass
    ids = await stack.db.fetch("SELECT id FROM pluggy_live.categories WHERE parent_id = '20000000'")
    assert {len(row["id"]) for row in ids} == {9}
