"""Faults on demand: which requests they hit, and what they do to an answer."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Literal

import msgspec

from simulator.errors import ApiError

Kind = Literal[
    "status",
    "timeout",
    "reset",
    "slow",
    "truncate",
    "garbage",
    "empty",
    "repeat_cursor",
    "redate",
    "novelty",
    "wrong_type",
    "nul",
    "date_shape",
]
# These replace the work; the others spoil its answer.
BEFORE = frozenset({"status", "timeout"})


class Fault(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """`times` hits and it is gone; or `rate` of all matching requests until removed.

    `skip` matching requests go through unharmed first: "the second page fails".
    """

    match: str
    kind: Kind
    skip: int = 0
    times: int | None = None
    rate: float | None = None
    status: int = 500
    retry_after: int | None = None
    code_description: str | None = None
    message: str | None = None
    seconds: float | None = None
    item: str | None = None
    announce: bool = True
    hits: int = 0

    def matches(self, method: str, path: str, item_id: str | None) -> bool:
        if self.item is not None and self.item != item_id:
            return False
        wanted_method, _, wanted = self.match.rpartition(" ")
        if wanted_method and wanted_method.upper() != method:
            return False
        if "*" in wanted or "?" in wanted:
            return fnmatchcase(path, wanted)
        return path == wanted or path.startswith(wanted.rstrip("/") + "/")

    def error(self) -> ApiError:
        message = self.message or ("Too many requests" if self.status == 429 else "Simulated fault")
        error = ApiError(self.status, message, self.code_description, errorId="simulated")
        if self.retry_after is not None:
            error.headers["Retry-After"] = str(self.retry_after)
        return error


class Faults:
    """The faults that are set, oldest first; a request meets at most one."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"faults:{seed}")
        self._faults: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, fault: Fault) -> Fault:
        if fault.times is None and fault.rate is None:
            fault.times = 1
        self._faults.append(fault)
        return fault

    def listed(self) -> list[Fault]:
        return list(self._faults)

    def clear(self) -> int:
        count = len(self._faults)
        self._faults.clear()
        return count

    def pick(self, method: str, path: str, item_id: str | None) -> Fault | None:
        for fault in self._faults:
            if not fault.matches(method, path, item_id):
                continue
            if fault.skip > 0:
                fault.skip -= 1
            elif fault.rate is None or self._random.random() < fault.rate:
                return fault
        return None

    def spend(self, fault: Fault) -> None:
        """It really hit something: a fault on lists is not used up by an error."""
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults = [other for other in self._faults if other is not fault]


def _rows(body: dict[str, Any]) -> list[dict[str, Any]]:
    results = body.get("results")
    return results if isinstance(results, list) else [body]


def _empty(body: dict[str, Any]) -> bool:
    if "results" not in body:
        return False
    body["results"] = []
    for name, value in (("next", None), ("total", 0), ("totalPages", 0)):
        if name in body:
            body[name] = value
    return True


def _novelty(body: dict[str, Any]) -> bool:
    """A field and enum values that no client has seen yet."""
    for row in _rows(body):
        row["brandNewField"] = {"since": "2027", "values": [1, 2.5, None]}
        for name in ("status", "type", "subtype", "operationType", "executionStatus"):
            if isinstance(row.get(name), str):
                row[name] = f"NEW_{row[name]}"
    return True


def _wrong_type(body: dict[str, Any]) -> bool:
    """payeeMCC as the string it once was; elsewhere a number as a string."""
    for row in _rows(body):
        metadata = row.get("creditCardMetadata")
        if isinstance(metadata, dict) and metadata.get("payeeMCC") is not None:
            metadata["payeeMCC"] = str(metadata["payeeMCC"])
        elif isinstance(row.get("order"), int):
            row["order"] = str(row["order"])
    return True


def _nul(body: dict[str, Any]) -> bool:
    hit = False
    for row in _rows(body):
        for name in ("description", "name", "fullName", "productName", "marketingName"):
            if isinstance(row.get(name), str):
                row[name], hit = f"{row[name][:4]}\u0000{row[name][4:]}", True
    return hit


_SHAPES: tuple[Callable[[str], str], ...] = (
    lambda date: date[:10] + "T00:00:00.000Z",
    lambda date: date[:10] + "T03:00:00.000Z",
    lambda date: date[:10] + "T14:31:07.123Z",
    lambda date: date[:10] + "T00:00:00",
    lambda date: date[:10],
)


def _date_shape(body: dict[str, Any]) -> bool:
    hit = False
    for number, row in enumerate(_rows(body)):
        for name in ("date", "dueDate", "tradeDate"):
            if isinstance(row.get(name), str):
                row[name], hit = _SHAPES[number % len(_SHAPES)](row[name]), True
    return hit


# Each changes a decoded answer and says whether there was anything to change.
MUTATIONS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "empty": _empty,
    "novelty": _novelty,
    "wrong_type": _wrong_type,
    "nul": _nul,
    "date_shape": _date_shape,
}
