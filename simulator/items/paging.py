"""How lists are paged: Pluggy has two models, and moves from one to the other key by key."""

from typing import Annotated, Literal

import msgspec

MAX_PAGE_SIZE = 500


class Paging(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """model: `page` numbers pages, `cursor` answers `next`. page_size: rows of a page."""

    model: Literal["page", "cursor"] = "page"
    page_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE_SIZE)] = MAX_PAGE_SIZE


class Pagings:
    """The paging of every list, by item where it was set for one."""

    def __init__(self, default: Paging) -> None:
        self._default = default
        self._by_item: dict[str, Paging] = {}

    def of(self, item_id: str | None) -> Paging:
        return self._by_item.get(item_id or "", self._default)

    def set(self, paging: Paging, item_id: str | None) -> None:
        """Set it for one item, or for everything that has none of its own."""
        if item_id is None:
            self._default = paging
        else:
            self._by_item[item_id] = paging
