"""Changes at the bank since the last collection: new, changed, removed and pending rows."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec

from simulator.bank.accounts import Account
from simulator.bank.history import SCHEDULED, Movements
from simulator.bank.rows import Row
from simulator.clock import DAY_MS
from simulator.items.item import Item
from simulator.world import World

# Pluggy re-reads no more than a year.
_WINDOW_DAYS = 365
_LATE_DAYS = (7, 45)
_UNKNOWN_CATEGORY = "99999999"
Count = Annotated[int, msgspec.Meta(ge=0)]


class Edit(NamedTuple):
    """`stored` as Pluggy knows it, `reported` as the bank shows it now; None: not there."""

    account: Account
    stored: Row | None
    reported: Row | None


class Wishes(msgspec.Struct):
    """How many rows of each kind of change, over all accounts."""

    created: Count = 0
    late: Count = 0  # new, but dated weeks ago
    scheduled: Count = 0  # new, pending, dated ahead
    twins: Count = 0  # pairs of new rows that only their ids tell apart
    settled: Count = 0
    updated: Count = 0
    deleted: Count = 0
    restated: Count = 0
    returned: Count = 0


class Books:
    """Draws the changes of one collection. No row is changed twice."""

    def __init__(self, world: World, item: Item, accounts: Sequence[Account], now_ms: int) -> None:
        self._world = world
        self._item = item
        self._random = item.random
        self._accounts = accounts
        self._now_ms = now_ms
        self._taken: set[str] = set()

    def leave_alone(self, row_ids: Iterable[str]) -> None:
        self._taken.update(row_ids)

    def draw(self, wishes: Wishes, *, also_due: bool = False) -> list[Edit]:
        """Fewer of a kind if there are not enough rows. `also_due`: pending rows of past days."""
        if not self._accounts:
            return []
        settled = max(wishes.settled, self._due() if also_due else 0)
        edits = self._births(wishes)
        for row in self._returning(wishes.returned):
            edits.append(Edit(row.account, None, row))
        for row in self._pending(settled):
            edits.append(Edit(row.account, row, settle(row)))
        changes: tuple[tuple[int, Callable[[Row], Row | None]], ...] = (
            (wishes.updated, self._update),
            (wishes.deleted, lambda row: None),
            (wishes.restated, self._restate),
        )
        for count, change in changes:
            edits += [Edit(row.account, row, change(row)) for row in self._pick(count)]
        return edits

    def _births(self, wishes: Wishes) -> list[Edit]:
        today = self._now_ms // DAY_MS
        rows = [self._new(today) for _ in range(wishes.created)]
        for _ in range(wishes.late):
            rows.append(self._new(today - self._random.randrange(*_LATE_DAYS)))
        for _ in range(wishes.scheduled):
            row = self._new(today)
            rows.append(self._source(row.account).scheduled(row))
        for _ in range(wishes.twins):
            row = self._new(today)
            rows += [row, self._source(row.account).twin(row)]
        return [Edit(row.account, None, row) for row in rows]

    def _source(self, account: Account) -> Movements:
        return Movements(self._random, self._world.society, account, self._now_ms)

    def _new(self, day: int) -> Row:
        return self._source(self._random.choice(self._accounts)).one(day)

    def _returning(self, count: int) -> list[Row]:
        """Rows that Pluggy deleted and the bank shows again."""
        ids = {account.id for account in self._accounts}
        gone = [row for row in self._item.removed if row.account.id in ids]
        return self._random.sample(gone, min(count, len(gone)))

    def _pending(self, count: int) -> list[Row]:
        """Pending rows, those first whose day has come."""
        if not count:
            return []
        rows = [row for account in self._accounts for row in account.rows if not row.posted]
        rows = [row for row in rows if row.id not in self._taken]
        self._random.shuffle(rows)
        rows.sort(key=lambda row: row.date > self._now_ms)
        self._taken.update(row.id for row in rows[:count])
        return rows[:count]

    def _due(self) -> int:
        """How many pending rows should have settled by now."""
        since = self._now_ms - DAY_MS
        return sum(
            not row.posted and row.date < since
            for account in self._accounts
            for row in account.rows
        )

    def _pick(self, count: int) -> list[Row]:
        """Rows of the window, over all accounts by their size."""
        sizes = [len(account.rows) for account in self._accounts]
        since = self._now_ms - _WINDOW_DAYS * DAY_MS
        picked: list[Row] = []
        # Bounded: where nearly everything is taken, random draws would never find the rest.
        for trial in range(20 * count if sum(sizes) else 0):
            rows = self._random.choices(self._accounts, sizes)[0].rows
            row = self._random.choice(rows)
            if trial < 10 * count and row.date == rows[-1].date:
                continue  # banks correct recent rows; the oldest one only where there is no other
            if row.id not in self._taken and row.date >= since:
                self._taken.add(row.id)
                picked.append(row)
            if len(picked) == count:
                break
        return picked

    def _update(self, row: Row) -> Row:
        """A change that keeps the match key: settled, reordered, or put in another category."""
        if not row.posted:
            return settle(row)
        changed = copy.copy(row)
        if self._random.random() < 0.5:
            changed.order = row.order + 1
        else:
            changed.category = row.kind.category or "08000000"
            if changed.category == row.category:
                changed.category = _UNKNOWN_CATEGORY
        return changed

    def _restate(self, row: Row) -> Row:
        """The same event restated: another amount, day or text, and no id in common."""
        restated = copy.copy(row)
        if row.provider_id is not None:
            restated.provider_id = f"{self._random.getrandbits(64):016x}"
        dice = self._random.random()
        if dice < 0.4:
            restated.cents += 1 if restated.cents > 0 else -1
        elif dice < 0.7:
            restated.date -= DAY_MS
        else:
            restated.description = f"{row.description} *"
        return restated


def settle(row: Row) -> Row:
    """The posted row with its final text; without the bank's id only amount and day identify it."""
    settled = copy.copy(row)
    settled.posted = True
    settled.description = row.description.removeprefix(SCHEDULED)
    return settled
