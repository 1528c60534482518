"""Promises that a mutant breaks and that no other test covers."""

from __future__ import annotations

import asyncio
import json
import uuid

from tests.support.receiver import PATIENCE_S, Locked
from tests.support.stack import now
from tests.support.waiting import until
from webhook_receiver.intake import Intake
from webhook_receiver.storage import Stores
from worker.inbox.events import parse_webhook
from worker.inbox.spool import Spool
from worker.infra.postgres import Pool
from worker.infra.redis_client import connect
from worker.wakeup.queue import ArqWaker


async def test_no_delivery_is_answered_before_its_event_is_committed(
    db: Pool, redis_url: str
) -> None:
    item_id, event_id = uuid.uuid4(), str(uuid.uuid4())
    body = {"event": "item/updated", "eventId": event_id, "itemId": str(item_id)}
    redis = connect(redis_url)
    stores = Stores(db, Spool(redis), postgres_timeout_s=PATIENCE_S)
    intake = Intake(stores, ArqWaker(redis))
    storing = asyncio.create_task(intake.run())
    async with Locked(db, item_id) as lock:
        answer = asyncio.create_task(intake.accept(parse_webhook(json.dumps(body).encode(), now())))
        await until(lock.holds_up)
        assert not answer.done()
    assert (await answer).is_new
    stored = await db.fetchval("SELECT event_id FROM pluggy_sync.webhook_events")
    assert stored == event_id
    intake.close()
    await storing
    await redis.aclose()
