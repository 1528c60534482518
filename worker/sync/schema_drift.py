"""Contract drift: counts fields and values that Pluggy sends and this release does not know.

Such rows are stored as usual, with everything in `payload`. Recorded are the names of unknown
fields, and unknown values of fields with a known set of values; never values of other fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any, Final

import msgspec
import structlog

from worker.entities.declaration import Entity
from worker.entities.registry import SHAPES
from worker.infra.postgres import Connection
from worker.infra.time_slices import yielding_to_others
from worker.lease.runs import Run
from worker.pluggy_api.known_fields import Shape, strict_type
from worker.pluggy_api.payloads import MAX_ROW_BYTES, UNREADABLE
from worker.pluggy_api.values import Fields
from worker.store import contract

log = structlog.get_logger()

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
VALUE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}", re.ASCII)
MAX_NOVELTIES: Final = 100
"""Novelties per page: a row may have any number of fields, and each is a row and a log line."""
NOT_SHOWN: Final = "*"
"""Stands for text that does not look like a contract's name or value, and may be personal data."""

Novelty = tuple[str, str]
"""Path and value; the value of a new field is empty."""


def read_familiar(entity: Entity, raws: Sequence[bytes]) -> Sequence[Fields | None]:
    """What the mapper reads of rows without novelties; None: find out by decoding all of it."""
    if entity.fields is None:
        return [None] * len(raws)
    one, many = _known(entity.product, entity.fields)
    if sum(map(len, raws)) <= MAX_ROW_BYTES:
        with suppress(*UNREADABLE):
            return many.decode(b"[" + b",".join(raws) + b"]")
    return [_read(one, raw) for raw in raws]


def _read(known: msgspec.json.Decoder[Fields], raw: bytes) -> Fields | None:
    if len(raw) > MAX_ROW_BYTES:
        return None
    try:
        return known.decode(raw)
    except UNREADABLE:
        return None


@cache
def _known(
    product: str, fields: type[Fields]
) -> tuple[msgspec.json.Decoder[Fields], msgspec.json.Decoder[list[Fields]]]:
    """Decoders of one row and of many."""
    kind: Any = strict_type(SHAPES[product], fields)
    return (
        msgspec.json.Decoder(kind, float_hook=Decimal),
        msgspec.json.Decoder(list[kind], float_hook=Decimal),
    )


def novelties(entity: str, rows: Iterable[Mapping[str, Any]]) -> set[Novelty]:
    """Unknown fields and values in rows of an entity."""
    found: set[Novelty] = set()
    shape = SHAPES[entity]
    for fields in rows:
        _compare(shape, fields, "", found)
    return found


def _compare(shape: Shape, fields: Mapping[str, Any], prefix: str, found: set[Novelty]) -> None:
    if not shape.names.issuperset(fields):
        found.update((prefix + _shown(key, NAME), "") for key in fields.keys() - shape.names)
    for name, known in shape.values:
        for value in _entries(fields.get(name)):
            if isinstance(value, str) and value not in known:
                found.add((prefix + name, _shown(value, VALUE)))
    for name, inner in shape.inner:
        value = fields.get(name)
        inner_prefix = f"{prefix}{name}[]." if isinstance(value, list) else f"{prefix}{name}."
        for entry in _entries(value):
            if isinstance(entry, dict):
                _compare(inner, entry, inner_prefix, found)


def _entries(value: object) -> Sequence[object]:
    """The entries of a list, or the one value; none for an absent value."""
    if isinstance(value, list):
        return value
    return () if value is None else (value,)


def _shown(text: str, pattern: re.Pattern[str]) -> str:
    return text if pattern.fullmatch(text) else NOT_SHOWN


async def _find_novelties(entity: str, rows: Iterable[Mapping[str, Any]]) -> set[Novelty]:
    found: set[Novelty] = set()
    async for fields in yielding_to_others(rows):
        found |= novelties(entity, [fields])
    return found


async def note_novelties(
    conn: Connection,
    run: Run,
    entity: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    request_id: str | None,
) -> None:
    """Record novelties of rows that are about to be written, in their transaction.

    request_id: of the answer that the rows come from.
    Unchanged rows were checked when they were written, and are not passed here.
    """
    found = sorted(await _find_novelties(entity, rows))[:MAX_NOVELTIES]
    if not found:
        return
    run.note_odd(request_id)
    noted = await contract.note_novelties(
        conn,
        entity=entity,
        paths=[path for path, _ in found],
        values=[value for _, value in found],
        run_id=run.id,
    )
    for record in noted:
        if record.days == 1:
            log.warning("contract_drift", entity=entity, path=record.path, value=record.value)
