"""A connection to Postgres that is lost while nobody awaits its call: no traceback in the log."""

from __future__ import annotations

import asyncio
import gc
import logging

import asyncpg
import pytest

from worker.infra.outage_log import ignore_lost_connections


def abandon(error: Exception) -> None:
    """Leave a failed call that nobody awaits, as asyncpg does for one that was cancelled."""
    asyncio.get_running_loop().create_future().set_exception(error)
    gc.collect()


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (asyncpg.ConnectionDoesNotExistError("connection was closed"), 0),
        (asyncpg.UniqueViolationError("key"), 1),
        (ValueError("a fault of ours"), 1),
    ],
)
async def test_only_the_loss_of_a_connection_is_no_fault(
    caplog: pytest.LogCaptureFixture, error: Exception, lines: int
) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_lost_connections)
    with caplog.at_level(logging.ERROR, "asyncio"):
        abandon(error)
    assert len(caplog.records) == lines
