"""Applies a fault: before the request is handled, to the decoded answer, or on the wire."""

import asyncio
import contextlib
import copy
from typing import Any

import msgspec
from aiohttp import web

from simulator.bank.books import Edit
from simulator.bank.rows import Row
from simulator.clock import DAY_MS
from simulator.faults.faults import Fault, apply_fault
from simulator.faults.quirks import QUIRKS
from simulator.http.answers import bytes_answer
from simulator.http.cursor import next_query, write_cursor
from simulator.items.collection import Scene, apply_edits
from simulator.state import Simulator

# Longer than any client of this project waits; a fault may say otherwise.
_TIMEOUT_S = 120.0
_SLOW_S = 10.0
_DRIPS = 20
_ON_CONTENT = frozenset({*QUIRKS, "empty", "repeat_cursor", "no_paging", "fields"})
_FAR_FUTURE_MS = 4_000_000_000_000


async def before(fault: Fault) -> None:
    """Raise the error that the fault names, or wait until the client has given up."""
    if fault.kind == "status":
        raise fault.error()
    await asyncio.sleep(fault.seconds if fault.seconds is not None else _TIMEOUT_S)


async def after(
    state: Simulator, request: web.Request, answer: web.Response, fault: Fault
) -> web.StreamResponse:
    """The answer with the fault applied. It counts as used only if it changed the answer."""
    body = bytes(answer.body) if isinstance(answer.body, bytes) else b""
    if fault.kind in _ON_CONTENT:
        spoilt = _mutated(request, fault, answer.status, body)
        if spoilt is None:
            return answer
        state.faults.spend(fault)
        return bytes_answer(spoilt)
    if fault.kind == "redate":
        if redate(state, request, announce=fault.announce):
            state.faults.spend(fault)
        return answer
    state.faults.spend(fault)
    if fault.kind == "headers":
        answer.headers.update(fault.headers)
        return answer
    return await _on_the_wire(request, answer, fault, body)


def _mutated(request: web.Request, fault: Fault, status: int, body: bytes) -> bytes | None:
    if status != 200:
        return None
    decoded = msgspec.json.decode(body)
    if not isinstance(decoded, dict):
        return None
    if fault.kind == "repeat_cursor":
        hit = _repeat_cursor(request, decoded)
    else:
        hit = apply_fault(fault, decoded)
    return msgspec.json.encode(decoded) if hit else None


def _repeat_cursor(request: web.Request, body: dict[str, Any]) -> bool:
    """Make `next` lead to the same page again."""
    if "next" not in body:
        return False
    own = request.query.get("after") or write_cursor(_FAR_FUTURE_MS, "")
    body["next"] = next_query(request.query.items(), own)
    return True


def redate(state: Simulator, request: web.Request, *, announce: bool) -> bool:
    """Move a row that the walk has not seen to a place above its cursor."""
    last: Row | None = request.get("page_end")
    if last is None:
        return False
    account = last.account
    position = account.rows.index(last) + 1
    unseen = account.rows[position]
    moved = copy.copy(unseen)
    moved.date = state.clock.now_ms() // DAY_MS * DAY_MS + 1
    moved.provider_id = unseen.provider_id = unseen.provider_id or f"moved-{unseen.id[:8]}"
    item = state.world.item_of(account)
    scene = Scene(state.world, item, state.lifecycle.links, state.clock.now_ms())
    apply_edits(scene, [Edit(account, unseen, moved)])
    if announce:
        state.emit(item, scene.done.events)
    return True


async def _on_the_wire(
    request: web.Request, answer: web.Response, fault: Fault, body: bytes
) -> web.StreamResponse:
    if fault.kind == "garbage":
        return web.Response(
            status=answer.status,
            text="<html><body>Bad gateway</body></html>",
            content_type="text/html",
        )
    if fault.kind == "truncate":
        # Well-formed HTTP around half a body: only the JSON is broken.
        return bytes_answer(body[: len(body) // 2], answer.status)
    kept = {name: answer.headers[name] for name in ("Date", "x-request-id")}
    headers = {"Content-Type": "application/json", **kept}
    stream = web.StreamResponse(status=answer.status, headers=headers)
    stream.content_length = len(body)
    await stream.prepare(request)
    if fault.kind == "reset":
        await stream.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.abort()
        return stream
    await _drip(stream, body, fault.seconds if fault.seconds is not None else _SLOW_S)
    return stream


async def _drip(stream: web.StreamResponse, body: bytes, seconds: float) -> None:
    size = max(1, -(-len(body) // _DRIPS))
    # A client that has gone, or was killed, needs no more of it.
    with contextlib.suppress(ConnectionResetError):
        for start in range(0, len(body), size):
            await stream.write(body[start : start + size])
            await asyncio.sleep(seconds / _DRIPS)
        await stream.write_eof()
