"""WAL files that wait to be written again, as of a server that has run for a while."""

from __future__ import annotations

from typing import Final

import asyncpg

WAL_FILES: Final = 40
"""Of 16 MiB each: more than a round of any question writes."""


async def recycle_wal(url: str, files: int = WAL_FILES) -> None:
    """Fill WAL files, and have a checkpoint keep them for later WAL. Needs a superuser.

    A new server creates a file for every 16 MiB: it writes zeros and fsyncs them, and no commit
    ends meanwhile. A server that has run for a while writes over files of before its checkpoints.
    """
    conn = await asyncpg.connect(url)
    try:
        for _ in range(files):
            # A file without a record is not left.
            await conn.execute("SELECT pg_logical_emit_message(false, 'bench', '')")
            await conn.execute("SELECT pg_switch_wal()")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()
