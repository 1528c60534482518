"""The simulator's rows, as Pluggy would return them, streamed one at a time."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

import aiohttp

CHUNK: Final = 256 * 1024
READ_TIMEOUT_S: Final = 60.0
"""How long the simulator may take for the next piece of an answer."""


class TruthError(Exception):
    """The answer is not the document that was asked for."""


@dataclass(frozen=True, slots=True)
class TrueRow:
    """A row as Pluggy would return it: its JSON text, and the same decoded with exact numbers.

    listed_under is the id that its list was asked for by, where the row itself does not carry it.
    """

    entity: str
    text: str
    fields: dict[str, Any]
    listed_under: str | None = None


class Truth(Protocol):
    """The source of the true rows."""

    async def items(self) -> list[str]:
        """Ids of the items that exist."""

    def rows(self, item_id: str) -> AsyncIterator[TrueRow]:
        """Everything that Pluggy holds of an item, the item itself included."""


@dataclass(frozen=True, slots=True)
class SimulatorTruth:
    """Asks a simulator's control calls."""

    session: aiohttp.ClientSession
    base_url: str

    async def items(self) -> list[str]:
        async with self.session.get(f"{self.base_url}/_simulator/truth") as answer:
            answer.raise_for_status()
            listed: list[str] = (await answer.json())["items"]
            return listed

    async def rows(self, item_id: str) -> AsyncIterator[TrueRow]:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=READ_TIMEOUT_S)
        url = f"{self.base_url}/_simulator/truth/{item_id}"
        async with self.session.get(url, timeout=timeout) as answer:
            answer.raise_for_status()
            async for row in read_truth(answer.content.iter_chunked(CHUNK)):
                yield row


async def read_truth(chunks: AsyncIterator[bytes]) -> AsyncIterator[TrueRow]:
    """Rows of a truth document, `{entity: [row, ...], ...}`, in its order. Raises TruthError.

    While consent is withdrawn Pluggy lists nothing; the document then has its rows under `behind`.
    The id that rows are listed under comes before them: `owners: {entity: {row id: id}}`. Anything
    else that is no list is passed over.
    """
    async for row in _rows_of_object(_Scanner(chunks), {}):
        yield row


async def _rows_of_object(
    scan: _Scanner, owners: dict[str, dict[str, str]]
) -> AsyncIterator[TrueRow]:
    await scan.expect("{")
    while await scan.peek() != "}":
        name, _ = await scan.value()
        await scan.expect(":")
        opening = await scan.peek()
        if opening == "[":
            async for row in _rows_of_list(scan, str(name), owners.get(str(name), {})):
                yield row
        elif name == "behind":
            async for row in _rows_of_object(scan, owners):
                yield row
        else:
            value, _ = await scan.value()
            if name == "owners":
                owners.update(value)
        if await scan.peek() == ",":
            await scan.expect(",")
    await scan.expect("}")


async def _rows_of_list(
    scan: _Scanner, entity: str, owners: dict[str, str]
) -> AsyncIterator[TrueRow]:
    await scan.expect("[")
    while await scan.peek() != "]":
        fields, text = await scan.value()
        if not isinstance(fields, dict):
            raise TruthError(f"a row of {entity} is no object")
        yield TrueRow(entity, text, fields, owners.get(fields.get("id", "")))
        if await scan.peek() == ",":
            await scan.expect(",")
    await scan.expect("]")


class _Scanner:
    """JSON tokens from a stream; holds no more text than the value that is being read."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(parse_float=Decimal)
        self._text = ""
        self._at = 0

    async def peek(self) -> str:
        """The next character that is no white space; it stays."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not await self._more():
                raise TruthError("the answer ends too early")

    async def expect(self, character: str) -> None:
        found = await self.peek()
        if found != character:
            raise TruthError(f"{character} expected, {found} found")
        self._at += 1

    async def value(self) -> tuple[Any, str]:
        """The next value whole, decoded and as text."""
        await self.peek()
        while True:
            try:
                decoded, end = self._json.raw_decode(self._text, self._at)
            except ValueError as error:
                if not await self._more():
                    raise TruthError("the answer is no JSON, or ends too early") from error
                continue
            # A number at the end of what has arrived may go on.
            if end == len(self._text) and await self._more():
                continue
            text, self._at = self._text[self._at : end], end
            return decoded, text

    async def _more(self) -> bool:
        """Fetch the next piece and let go of what has been read; False at the end."""
        chunk = await anext(self._chunks, None)
        if chunk is None:
            return False
        self._text, self._at = self._text[self._at :] + self._utf8.decode(chunk), 0
        return True
