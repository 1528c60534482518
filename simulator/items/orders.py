"""The instructions for a collection, and its report."""

from typing import Annotated, Literal

import msgspec

from simulator.bank.books import Wishes
from simulator.webhooks.events import Event

Count = Annotated[int, msgspec.Meta(ge=0)]
Ids = dict[str, list[str]]
TriggeredBy = Literal["USER", "CLIENT", "SYNC", "INTERNAL"]


class Counts(msgspec.Struct, forbid_unknown_fields=True):
    """Changes of one product."""

    created: Count = 0
    updated: Count = 0
    deleted: Count = 0


class Order(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Counts are transactions, over all accounts of the item; see docs/simulator.md."""

    created: Count = 0
    late: Count = 0
    scheduled: Count = 0
    twins: Count = 0
    settled: Count = 0
    updated: Count = 0
    deleted: Count = 0
    restated: Count = 0
    returned: Count = 0
    calendar: bool = False
    products: dict[str, Counts] = {}
    close: list[str] = []
    status: str | None = None
    partial: bool | list[str] = False
    warned: list[str] = []
    consent: Literal["revoked", "expired", "renewed"] | None = None
    provider_message: str | None = None
    triggered_by: TriggeredBy = "SYNC"
    lag: dict[str, Count] = {}

    def wishes(self) -> Wishes:
        return Wishes(
            created=self.created,
            late=self.late,
            scheduled=self.scheduled,
            twins=self.twins,
            settled=self.settled,
            updated=self.updated,
            deleted=self.deleted,
            restated=self.restated,
            returned=self.returned,
        )


class Collected(msgspec.Struct):
    """The result: ids per account and product, and the bodies of the webhooks, in order."""

    accounts: dict[str, Ids] = {}
    products: dict[str, Ids] = {}
    closed: list[str] = []
    events: list[Event] = []


class Links(msgspec.Struct, frozen=True):
    """The links in webhooks back to this server."""

    base_url: str
    legacy: bool = False
