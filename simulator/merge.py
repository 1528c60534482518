"""Pluggy's merge: what a bank reports now, matched with what was held, gives three lists.

A row keeps its id if the bank's own id is the same, or else if description, amount, date and the
position among identical rows of the day are. A scheduled row that settles under another text keeps
its id by amount and day. Every other difference is a deletion and a creation that nothing links.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import msgspec

from simulator.clock import DAY_MS
from simulator.rows import Row


class Merge(NamedTuple):
    created: list[Row]
    updated: list[tuple[Row, Row]]  # as held, as it becomes
    deleted: list[Row]


def _provider_key(row: Row) -> Hashable:
    return row.provider_id


def _text_key(row: Row) -> Hashable:
    return None if row.provider_id else (row.description, row.cents, row.date)


def _settlement_key(row: Row) -> Hashable:
    return (row.cents, row.date // DAY_MS)


def _content(row: Row) -> tuple[object, ...]:
    return tuple(
        getattr(row, name) for name in Row.__struct_fields__ if name not in {"id", "created", "updated"}
    )


def merge(
    held: Iterable[Row], reported: Iterable[Row], *, now_ms: int, new_id: Callable[[], str]
) -> Merge:
    """Both lists cover the same days of one account; held rows are not changed."""
    pairs: list[tuple[Row, Row]] = []
    left, fresh = list(held), list(reported)
    for key in (_provider_key, _text_key):
        left, fresh = _pair(left, fresh, key, pairs)
    pending = [row for row in left if not row.posted]
    settled = [row for row in fresh if row.posted]
    gone, new = _pair(pending, settled, _settlement_key, pairs)
    deleted = [row for row in left if row.posted] + gone
    fresh = [row for row in fresh if not row.posted] + new
    changed = [(old, now) for old, now in pairs if _content(old) != _content(now)]
    return Merge(
        created=[
            msgspec.structs.replace(row, id=new_id(), created=now_ms, updated=now_ms) for row in fresh
        ],
        updated=[
            (old, msgspec.structs.replace(now, id=old.id, created=old.created, updated=now_ms))
            for old, now in changed
        ],
        deleted=deleted,
    )


def _pair(
    held: list[Row],
    reported: list[Row],
    key: Callable[[Row], Hashable],
    pairs: list[tuple[Row, Row]],
) -> tuple[list[Row], list[Row]]:
    """Match rows of equal key in order; returns what is left of both sides."""
    waiting: defaultdict[Hashable, list[Row]] = defaultdict(list)
    left = []
    for row in held:
        name = key(row)
        (waiting[name] if name is not None else left).append(row)
    for queue in waiting.values():
        queue.reverse()
    fresh = []
    for row in reported:
        name = key(row)
        if name is not None and waiting.get(name):
            pairs.append((waiting[name].pop(), row))
        else:
            fresh.append(row)
    return left + [row for queue in waiting.values() for row in reversed(queue)], fresh
