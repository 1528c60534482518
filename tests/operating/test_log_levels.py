"""Log levels: a warning needs a person; what the worker handles by itself is no warning."""

from __future__ import annotations

import uuid
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.stack import Stack


def levels(logs: Sequence[MutableMapping[str, Any]], event: str) -> set[str]:
    return {entry["log_level"] for entry in logs if entry["event"] == event}


async def test_a_dead_event_is_a_warning(stack: Stack) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.refuse("GET /v2/transactions", 400)
    with capture_logs() as logs:
        await stack.process(
            "transactions/updated",
            item["id"],
            accountId=next(iter(await stack.live(item["id"], "accounts"))),
            transactionIds=[str(uuid.uuid4())],
        )
    assert levels(logs, "events_dead") == {"warning"}


@pytest.mark.parametrize("match", ["GET /v2/transactions", "GET /items"])
async def test_a_wait_for_the_rate_limit_is_no_warning(stack: Stack, match: str) -> None:
    item = await stack.synced_item(transactions=5)
    await stack.refuse(match, 429, retryAfter=30)
    await stack.collect(item["id"], created=1)
    with capture_logs() as logs:
        await stack.process("item/updated", item["id"])
    assert levels(logs, "step_deferred") == {"info"}
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error")]
