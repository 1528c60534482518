"""The truth of an item as a document of the simulator that has arrived whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ops.compare.truth import TrueRow, read_truth


async def read_document(document: bytes) -> AsyncIterator[TrueRow]:
    """The rows of a truth document. Raises TruthError."""

    async def once() -> AsyncIterator[bytes]:
        yield document

    async for row in read_truth(once()):
        yield row
