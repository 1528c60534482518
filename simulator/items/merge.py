"""Pluggy's merge: compares a bank's report with the stored rows, and returns three lists.

A row keeps its id if the bank's own id is the same, or else if description, amount, date and the
position among identical rows of the day are. A scheduled row that settles under another text keeps
its id by amount and day. Every other difference is a deletion and a creation that nothing links.
A row that comes back after its deletion gets its old id again.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import msgspec

from simulator.bank.rows import Row
from simulator.clock import DAY_MS


class Merge(NamedTuple):
    created: list[Row]
    updated: list[tuple[Row, Row]]  # as stored, as it becomes
    deleted: list[Row]


Pairs = list[tuple[Row, Row]]
Key = Callable[[Row], Hashable]
# The printed balance is not compared: identical rows may swap places.
_NOT_CONTENT = frozenset({"id", "created", "updated", "balance"})
_CONTENT = tuple(name for name in Row.__struct_fields__ if name not in _NOT_CONTENT)


def _provider_key(row: Row) -> Hashable:
    return row.provider_id


def _text_key(row: Row) -> Hashable:
    return None if row.provider_id else (row.description, row.cents, row.date)


def match_key(row: Row) -> Hashable:
    """Rows of different keys are only ever matched as the settlement of a pending one."""
    return row.provider_id or (row.description, row.cents, row.date)


def _settlement_key(row: Row) -> Hashable:
    return (row.cents, row.date // DAY_MS)


def content(row: Row) -> tuple[object, ...]:
    """The bank's fields of a row; the rest is Pluggy's."""
    return tuple(getattr(row, name) for name in _CONTENT)


def merge(
    stored: Iterable[Row],
    reported: Iterable[Row],
    *,
    removed: Iterable[Row] = (),
    now_ms: int,
    new_id: Callable[[], str],
) -> Merge:
    """Both lists cover the same days of one account; no row given is changed."""
    pairs, left, fresh = _matched(list(stored), list(reported))
    returns: Pairs = []
    _, fresh = _pair(list(removed), fresh, _provider_key, returns)
    _, fresh = _pair([old for old in removed if not _in(returns, old)], fresh, _text_key, returns)
    born = [(new_id(), row) for row in fresh] + [(old.id, row) for old, row in returns]
    return Merge(
        created=[
            msgspec.structs.replace(row, id=row_id, created=now_ms, updated=now_ms)
            for row_id, row in born
        ],
        updated=[
            (old, _under_its_old_id(old, now, now_ms))
            for old, now in pairs
            if old is not now and content(old) != content(now)
        ],
        deleted=left,
    )


def _under_its_old_id(old: Row, now: Row, now_ms: int) -> Row:
    return msgspec.structs.replace(
        now, id=old.id, created=old.created, updated=now_ms, balance=old.balance
    )


def _matched(stored: list[Row], reported: list[Row]) -> tuple[Pairs, list[Row], list[Row]]:
    """Pairs of rows, rows only stored, rows only reported."""
    pairs: Pairs = []
    stored, reported = _pair(stored, reported, _provider_key, pairs)
    stored, reported = _pair(stored, reported, _text_key, pairs)
    pending = [row for row in stored if not row.posted]
    settled = [row for row in reported if row.posted]
    gone, new = _pair(pending, settled, _settlement_key, pairs)
    return (
        pairs,
        [row for row in stored if row.posted] + gone,
        [row for row in reported if not row.posted] + new,
    )


def _pair(
    stored: list[Row], reported: list[Row], key: Key, pairs: Pairs
) -> tuple[list[Row], list[Row]]:
    """Match rows of equal key, first with first; returns what is left of both sides, in order."""
    waiting: defaultdict[Hashable, deque[Row]] = defaultdict(deque)
    for row in stored:
        waiting[key(row)].append(row)
    # No key is no match.
    waiting.pop(None, None)
    matched, fresh = set(), []
    for row in reported:
        queue = waiting.get(key(row))
        if queue:
            partner = queue.popleft()
            matched.add(id(partner))
            pairs.append((partner, row))
        else:
            fresh.append(row)
    return [row for row in stored if id(row) not in matched], fresh


def _in(pairs: Pairs, row: Row) -> bool:
    return any(old is row for old, _ in pairs)
