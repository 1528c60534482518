"""The timeline of an item: its changes, in order, with their times."""

from collections.abc import Iterator

from simulator.clock import iso
from simulator.items.item import Item, Payload
from simulator.items.orders import Collected, Ids


def note_import(item: Item, now_ms: int) -> None:
    """A first import is summed up in numbers instead of a million lines."""
    counts = {account.id: len(account.rows) for account in item.accounts.values()}
    item.timeline.append(
        _line(now_ms, "item", "imported", item.id)
        | {"transactions": counts, "executionStatus": item.execution_status}
    )


def note_status(item: Item, now_ms: int) -> None:
    item.timeline.append(
        _line(now_ms, "item", "status", item.id)
        | {"status": item.status, "executionStatus": item.execution_status}
    )


def note_changes(item: Item, done: Collected, now_ms: int) -> None:
    item.timeline += _changes(done, now_ms)


def _changes(done: Collected, now_ms: int) -> Iterator[Payload]:
    for account_id, lists in done.accounts.items():
        for line in _lines(now_ms, "transactions", lists):
            yield line | {"accountId": account_id}
    for name, lists in done.products.items():
        yield from _lines(now_ms, name, lists)
    for closed_id in done.closed:
        yield _line(now_ms, None, "closed", closed_id)


def _lines(now_ms: int, entity: str, lists: Ids) -> Iterator[Payload]:
    for what, ids in lists.items():
        for id_ in ids:
            yield _line(now_ms, entity, what, id_)


def _line(now_ms: int, entity: str | None, what: str, id_: str) -> Payload:
    return {"at": iso(now_ms), "entity": entity, "what": what, "id": id_}
