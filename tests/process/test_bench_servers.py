"""The servers that `make bench` measures on."""

from __future__ import annotations

import asyncpg

import embedded
from bench.wal_files import recycle_wal

LATER_FILES = """
SELECT count(*) FROM pg_ls_waldir()
WHERE name ~ '^[0-9A-F]{24}$' AND name > pg_walfile_name(pg_current_wal_insert_lsn())
"""


async def test_a_server_whose_wal_is_recycled_creates_no_file_for_what_comes() -> None:
    with embedded.database() as url:
        await recycle_wal(url, files=4)
        conn = await asyncpg.connect(url)
        try:
            assert await conn.fetchval(LATER_FILES) >= 4
        finally:
            await conn.close()
