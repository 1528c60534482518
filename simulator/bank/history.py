"""The first year of movements on an account, drawn from a seed, ending now."""

import copy
from collections.abc import Iterator
from random import Random
from uuid import UUID

from simulator.bank.accounts import Account
from simulator.bank.categories import SAME_PERSON
from simulator.bank.movements import BRAZIL_MIDNIGHT, EXACT, KINDS, Kind, Society
from simulator.bank.rows import Row, dice_of
from simulator.clock import DAY_MS, HOUR_MS

HISTORY_DAYS = 365
_INSTALLMENTS = (2, 3, 3, 4, 6, 10, 12)
_MONTH_DAYS = 30
# Banks announce instalments and scheduled payments this far ahead.
AHEAD_DAYS = 90
SCHEDULED = "AGENDADO "
# One row in so many has no category.
UNCATEGORISED = 16
_HOTELS = 7011


def new_id(random: Random) -> str:
    """A version 4 UUID from the item's own random generator."""
    bits = random.getrandbits(128) & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


# Each kind as often as it weighs.
_SPREAD = {
    subtype: [kind for kind in kinds.values() for _ in range(kind.weight)]
    for subtype, kinds in KINDS.items()
}


class Movements:
    """Draws the movements of one account."""

    def __init__(self, random: Random, society: Society, account: Account, now_ms: int) -> None:
        self._random = random
        self._society = society
        self._account = account
        self._now_ms = now_ms
        self._kinds = _SPREAD[account.subtype]

    def past(self, count: int) -> Iterator[Row]:
        """`count` rows over the last year; some come in instalments, as twins, or are ahead."""
        today = self._now_ms // DAY_MS
        left = count
        while left > 0:
            for row in self.draw(today - int(self._random.random() * HISTORY_DAYS)):
                if left == 0:
                    return
                left -= 1
                yield row

    def draw(self, day: int) -> list[Row]:
        """One movement of that day: usually one row."""
        dice = self._random.random()
        row = self.one(day)
        if self._account.type == "CREDIT" and dice < 0.06 and row.cents > 0 and not row.foreign:
            return self._in_installments(row)
        if dice > 0.985:
            return [row, self.twin(row)]
        if dice > 0.975 and self._account.type == "BANK":
            return [self.scheduled(row)]
        return [row]

    def one(self, day: int) -> Row:
        random = self._random
        kind = self._kinds[int(random.random() * len(self._kinds))]
        low, high = kind.cents
        # Squared: most purchases are small, few are large.
        cents = low + int((high - low) * random.random() ** 2)
        is_card = self._account.type == "CREDIT"
        row = Row(
            id=new_id(random),
            account=self._account,
            kind=kind,
            party=None,
            description=kind.text,
            category=kind.category,
            cents=-kind.sign * cents if is_card else kind.sign * cents,
            date=self._time(kind, day),
            created=self._now_ms,
            updated=self._now_ms,
            posted=True,
            order=int(random.random() * 40),
            provider_id=f"{random.getrandbits(64):016x}" if self._account.open_finance else None,
        )
        if kind.party is not None:
            self._with_party(row, kind)
        if dice_of(row.id) % UNCATEGORISED == 0:
            row.category = ""
        if day >= self._now_ms // DAY_MS - 2 and random.random() < 0.5:
            row.posted = False
        return row

    def _with_party(self, row: Row, kind: Kind) -> None:
        random, society = self._random, self._society
        if kind.party == "person":
            row.party = society.people[int(random.random() * len(society.people))]
        elif kind.party == "owner":
            row.party, row.category = self._account.owner, SAME_PERSON
        else:
            pool = society.firms if kind.party == "firm" else society.foreign
            merchant = pool[int(random.random() * len(pool))]
            row.party, row.mcc = merchant.party, merchant.mcc
            row.category = kind.category or merchant.category
            if kind.party == "foreign":
                currency = "EUR" if merchant.mcc == _HOTELS else "USD"
                row.foreign = (currency, round(row.cents * (5.0 + random.random())))
        row.description = society.text(kind, row.party.name)

    def _time(self, kind: Kind, day: int) -> int:
        start = day * DAY_MS
        if kind.times == EXACT:
            moment = start + int((9 + 14 * self._random.random()) * HOUR_MS)
            return moment if moment <= self._now_ms else moment - DAY_MS
        return start + 3 * HOUR_MS if kind.times == BRAZIL_MIDNIGHT else start

    def twin(self, row: Row) -> Row:
        """An identical row (the same coffee twice): only the ids differ."""
        twin = self._another(row)
        if row.provider_id is not None:
            twin.provider_id = f"{self._random.getrandbits(64):016x}"
        return twin

    def _another(self, row: Row) -> Row:
        twin = copy.copy(row)
        twin.id = new_id(self._random)
        return twin

    def scheduled(self, row: Row) -> Row:
        """The movement as a scheduled one, as the bank announces it."""
        row.description = f"{SCHEDULED}{row.description}"
        row.date = (self._now_ms // DAY_MS + 1 + self._random.randrange(AHEAD_DAYS)) * DAY_MS
        row.posted = False
        return row

    def _in_installments(self, first: Row) -> list[Row]:
        """A purchase in monthly instalments, as far ahead as banks announce them."""
        total = self._random.choice(_INSTALLMENTS)
        rows = []
        base = first.description
        for number in range(1, total + 1):
            date = first.date + (number - 1) * _MONTH_DAYS * DAY_MS
            if date > self._now_ms + AHEAD_DAYS * DAY_MS:
                break
            row = first if number == 1 else self._another(first)
            if number > 1 and row.provider_id is not None:
                row.provider_id = f"{self._random.getrandbits(64):016x}"
            row.description = f"{base} {number:02d}/{total:02d}"
            row.date, row.posted = date, date <= self._now_ms
            row.installment, row.installments, row.purchased = number, total, first.date
            rows.append(row)
        return rows
