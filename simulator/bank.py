"""The bank's side: what it changed on its books since the last collection."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from simulator.accounts import Account
from simulator.clock import DAY_MS
from simulator.history import Movements
from simulator.rows import Row
from simulator.world import World

# Pluggy re-reads no more than a year.
_WINDOW_DAYS = 365
_LATE_DAYS = (7, 45)


class Edit(NamedTuple):
    """`held` as Pluggy knows it, `reported` as the bank shows it now; None: not there."""

    account: Account
    held: Row | None
    reported: Row | None


class Wishes(NamedTuple):
    """How many of each kind of change."""

    created: int = 0
    late: int = 0
    settled: int = 0
    updated: int = 0
    deleted: int = 0
    restated: int = 0
    returned: int = 0


def draw_edits(
    world: World, random: Random, accounts: Sequence[Account], removed: list[Row], wishes: Wishes
) -> list[Edit]:
    """Pick rows for each kind of change, no row twice; fewer if there are not enough."""
    now_ms = world.clock.now_ms()
    edits = _new_rows(world, random, accounts, wishes, now_ms)
    edits += [Edit(row.account, None, row) for row in _take_returned(random, removed, wishes.returned)]
    taken: set[str] = set()
    for change, count, pending in (
        (_settle, wishes.settled, True),
        (_update, wishes.updated, False),
        (_remove, wishes.deleted, False),
        (_restate, wishes.restated, False),
    ):
        for row in _pick(random, accounts, count, taken, now_ms, pending=pending):
            edits.append(Edit(row.account, row, change(row, random, now_ms)))
    return edits


def _new_rows(
    world: World, random: Random, accounts: Sequence[Account], wishes: Wishes, now_ms: int
) -> list[Edit]:
    today = now_ms // DAY_MS
    edits = []
    for number in range(wishes.created + wishes.late if accounts else 0):
        late = random.randrange(*_LATE_DAYS) if number >= wishes.created else 0
        account = random.choice(accounts)
        row = Movements(random, world.society, account, now_ms).one(today - late)
        edits.append(Edit(account, None, row))
    return edits


def _take_returned(random: Random, removed: list[Row], count: int) -> list[Row]:
    return [removed.pop(random.randrange(len(removed))) for _ in range(min(count, len(removed)))]


def _pick(
    random: Random,
    accounts: Sequence[Account],
    count: int,
    taken: set[str],
    now_ms: int,
    *,
    pending: bool,
) -> list[Row]:
    """`count` rows of the window that nothing else changes, over all accounts by their size."""
    sizes = [len(account.rows) for account in accounts]
    since = now_ms - _WINDOW_DAYS * DAY_MS
    picked: list[Row] = []
    if pending and count:
        candidates = [row for account in accounts for row in account.rows if not row.posted]
        return _note(random.sample(candidates, min(count, len(candidates))), taken)
    # Bounded: where nearly everything is taken the dice would never find the rest.
    for _ in range(20 * count):
        if len(picked) == count or not sum(sizes):
            break
        account = random.choices(accounts, sizes)[0]
        row = random.choice(account.rows)
        if row.id not in taken and row.date >= since:
            taken.add(row.id)
            picked.append(row)
    return picked


def _note(rows: list[Row], taken: set[str]) -> list[Row]:
    taken.update(row.id for row in rows)
    return rows


def _settle(row: Row, random: Random, now_ms: int) -> Row:
    settled = row.__copy__()
    settled.posted = True
    return settled


def _update(row: Row, random: Random, now_ms: int) -> Row:
    """A change that keeps the match key: settled, moved within the day's order, or recategorised."""
    changed = row.__copy__()
    if not row.posted:
        changed.posted = True
    elif random.random() < 0.5:
        changed.order = row.order + 1
    else:
        changed.category = "99999999" if row.category != "99999999" else "08000000"
    return changed


def _remove(row: Row, random: Random, now_ms: int) -> None:
    return None


def _restate(row: Row, random: Random, now_ms: int) -> Row:
    """The same event told differently: another amount, day or text, and no id that links them."""
    told = row.__copy__()
    if row.provider_id is not None:
        told.provider_id = f"{random.getrandbits(64):016x}"
    dice = random.random()
    if dice < 0.4:
        told.cents += 1 if told.cents > 0 else -1
    elif dice < 0.7:
        told.date -= DAY_MS
    else:
        told.description = f"{row.description} *"
    # A row that Pluggy could take for the settlement of a pending one would keep its id.
    told.posted = row.posted
    return told


