"""The simulator's page in docs/: it names every call, field, fault and option."""

import re
from pathlib import Path
from typing import get_args

from simulator.__main__ import main
from simulator.faults.faults import Fault, Kind
from simulator.http import control
from simulator.http.lists import Lists
from simulator.http.server import API
from simulator.items.orders import Order
from simulator.webhooks.delivery import DeliveryFaults
from tests.extra.sdk_operations import operations
from tests.support.days import WEEKDAYS

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def plain(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def test_every_control_call_is_on_the_page() -> None:
    paths = {plain(path) for path in re.findall(r"/_simulator[\w/{}]*", PAGE)}
    assert {plain(route.path) for route in control.ROUTES} <= paths


def test_every_field_and_every_kind_of_fault_is_on_the_page() -> None:
    names = {
        *Order.__struct_encode_fields__,
        *control.NewItem.__struct_encode_fields__,
        *Fault.__struct_encode_fields__,
        *Lists.__struct_encode_fields__,
        *DeliveryFaults.__struct_encode_fields__,
        *get_args(Kind),
    } - {"hits"}
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))
    assert names <= named


def test_every_option_explains_itself() -> None:
    options = [option for option in main.params if option.name != "help"]
    assert [option.name for option in options if not getattr(option, "help", None)] == []


def test_the_moments_that_worlds_are_drawn_as_of_cover_each_day_of_a_week() -> None:
    assert set(range(7)) == WEEKDAYS


def test_the_page_of_operations_says_what_is_served_and_what_is_not() -> None:
    served = {f"{route.method} {route.path}" for module in API for route in module.ROUTES}
    listed = {row.request for row in operations() if row.covered}
    left_out = [row for row in operations() if not row.covered]
    assert served == listed
    assert not served & {row.request for row in left_out}
    assert [row.name for row in left_out if len(row.remark) < len(": because")] == []
