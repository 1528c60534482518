"""Bank slips: barcode and typeable line with their check digits (FEBRABAN's layout)."""

from itertools import cycle
from operator import mul
from typing import Any

_DOUBLED = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}
_BANK, _REAL = "341", "9"
# The due-date factor began again at 1000 on this day.
_FACTOR_1000_DAY = 20_141  # 2025-02-22


def _mod10(digits: str) -> str:
    total = sum(_DOUBLED[digit] for digit in digits[::-2]) + sum(map(int, digits[-2::-2]))
    return str(-total % 10)


def _mod11(digits: str) -> str:
    total = sum(map(mul, map(int, reversed(digits)), cycle(range(2, 10))))
    check = 11 - total % 11
    return str(check if 2 <= check <= 9 else 1)


def boleto(number: int, *, cents: int, day: int) -> dict[str, Any]:
    """The slip of that number over `cents`, due on that day; base amounts as Pluggy shows them."""
    factor = 1000 + (day - _FACTOR_1000_DAY) % 9000
    free = f"{number:025d}"[-25:]
    value = f"{factor:04d}{cents:010d}"
    check = _mod11(f"{_BANK}{_REAL}{value}{free}")
    first = f"{_BANK}{_REAL}{free[:5]}"
    fields = [first + _mod10(first)] + [part + _mod10(part) for part in (free[5:15], free[15:])]
    line = " ".join([f"{field[:5]}.{field[5:]}" for field in fields] + [check, value])
    return {"digitableLine": line, "barcode": f"{_BANK}{_REAL}{check}{value}{free}"}
