"""Faults on demand: the requests that a fault matches, and its effect on an answer."""

from fnmatch import fnmatchcase
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from simulator.faults.quirks import QUIRKS
from simulator.http.errors import ApiError

Kind = Literal[
    "status",
    "timeout",
    "reset",
    "slow",
    "truncate",
    "garbage",
    "empty",
    "repeat_cursor",
    "no_paging",
    "redate",
    "headers",
    "fields",
    "partial",
    "lag",
    "novelty",
    "wrong_type",
    "nul",
    "date_shape",
]
# These replace the handler's work; the others change its answer.
BEFORE = frozenset({"status", "timeout"})
# These have the request answered from another view of the item.
VIEWS = frozenset({"partial", "lag"})


class Subject(NamedTuple):
    """The subject of a request, as far as its address names it."""

    item: str | None = None
    account: str | None = None


class Fault(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A fault: removed after `times` hits, or on a share `rate` of matching requests until removed.

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
    headers: dict[str, str] = {}
    body: Any = None  # of `status`: the whole answer
    fields: dict[str, Any] = {}  # "a.b" reaches into an object
    rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    item: str | None = None
    account: str | None = None
    query: str | None = None  # a part of the query string, "after=" for later pages
    announce: bool = True
    hits: int = 0

    def matches(self, method: str, path: str, query: str, about: Subject) -> bool:
        if self.item not in (None, about.item) or self.account not in (None, about.account):
            return False
        if (self.query or "") not in query:
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
        error.headers |= self.headers
        if self.body is not None:
            error.body = self.body
        return error


class Faults:
    """The faults that are set, oldest first; a request meets at most one."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"faults:{seed}")
        self._faults: list[Fault] = []

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

    def take(self, item_id: str) -> list[Fault]:
        """Remove and return the faults of one item, with what they have hit."""
        taken = [fault for fault in self._faults if fault.item == item_id]
        self._faults = [fault for fault in self._faults if fault.item != item_id]
        return taken

    def pick(self, method: str, path: str, query: str, about: Subject) -> Fault | None:
        for fault in self._faults:
            if not fault.matches(method, path, query, about):
                continue
            if fault.skip > 0:
                fault.skip -= 1
            elif fault.rate is None or self._random.random() < fault.rate:
                return fault
        return None

    def spend(self, fault: Fault) -> None:
        """Count a hit that had an effect: an error does not use up a fault on lists."""
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults = [other for other in self._faults if other is not fault]


def empty(body: dict[str, Any]) -> bool:
    """A list without rows, as after a revoked consent; False if the answer is no list."""
    if "results" not in body:
        return False
    body["results"] = []
    for name, value in (("next", None), ("total", 0), ("totalPages", 0)):
        if name in body:
            body[name] = value
    return True


def without_paging(body: dict[str, Any]) -> bool:
    """A list that does not say whether there is more; False if the answer is no list."""
    for name in ("page", "total", "totalPages", "next"):
        body.pop(name, None)
    return "results" in body


def apply_fault(fault: Fault, body: dict[str, Any]) -> bool:
    """Change a decoded answer; False if there was nothing to change."""
    kind = fault.kind
    if kind == "empty":
        return empty(body)
    if kind == "no_paging":
        return without_paging(body)
    results = body.get("results")
    rows = results if isinstance(results, list) else [body]
    if kind == "fields":
        return any([_set_fields(row, fault.fields) for row in rows])
    # A list, not a generator: every row is to be changed.
    return any([QUIRKS[kind](row, number) for number, row in enumerate(rows)])


def _set_fields(row: dict[str, Any], fields: dict[str, Any]) -> bool:
    """False if the row has not the objects that the names reach into."""
    done = False
    for name, value in fields.items():
        *path, last = name.split(".")
        parent: Any = row
        for part in path:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if isinstance(parent, dict):
            parent[last] = value
            done = True
    return done
