"""The instructions for a collection, and its report."""

from typing import Literal

import msgspec

from simulator.bank.books import Count, Wishes
from simulator.webhooks.events import Event

Ids = dict[str, list[str]]
TriggeredBy = Literal["USER", "CLIENT", "SYNC", "INTERNAL"]


ORDINARY_WARNING = "001"


class Counts(msgspec.Struct, forbid_unknown_fields=True):
    """Changes of one product."""

    created: Count = 0
    updated: Count = 0
    deleted: Count = 0


class Order(Wishes, msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Counts are transactions, over all accounts of the item; see docs/simulator.md."""

    calendar: bool = False
    products: dict[str, Counts] = {}
    close: list[str] = []
    status: str | None = None
    partial: bool | list[str] = False
    warned: list[str] = []
    warning_code: str = ORDINARY_WARNING
    consent: Literal["revoked", "expired", "renewed"] | None = None
    pending_authorization: bool | None = None
    provider_message: str | None = None
    triggered_by: TriggeredBy = "SYNC"
    lag: dict[str, Count] = {}


class Collected(msgspec.Struct):
    """The result: ids per account and product, and the bodies of the webhooks, in order."""

    accounts: dict[str, Ids] = {}
    products: dict[str, Ids] = {}
    closed: list[str] = []
    events: list[Event] = []
