"""`python -m bench.peers.receivers bare|naive`: receivers to compare ours with.

bare: aiohttp that answers 202 and keeps nothing: the limit of the web server. naive: checks the
secret, inserts the event into a table with the columns and indexes of ours, enqueues an arq job,
answers 202; one commit a delivery, warm connections, uvloop.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import AsyncIterator

import asyncpg
import click
import uvloop
from aiohttp import web
from arq.connections import RedisSettings, create_pool

HEADER = "X-Webhook-Secret"
SCHEMA = """
CREATE TABLE IF NOT EXISTS naive_events (
    LIKE pluggy_sync.webhook_events
    INCLUDING CONSTRAINTS INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES)
"""
INSERT = """
INSERT INTO naive_events (event_id, body_sha256, event, item_id, body, received_at, lane, state)
VALUES ($1, sha256($2), $3, $4, $2, now(), 0, 'pending')
ON CONFLICT DO NOTHING
"""
DB = web.AppKey("db", asyncpg.Pool)
QUEUE = web.AppKey("queue", object)


async def bare(request: web.Request) -> web.Response:
    """Read the body and answer."""
    await request.read()
    return web.json_response({"status": "accepted"}, status=202)


async def naive(request: web.Request) -> web.Response:
    """Store the event, then enqueue its sync."""
    if not hmac.compare_digest(request.headers.get(HEADER, ""), os.environ["WEBHOOK_SECRET"]):
        return web.json_response({"status": "unauthorized"}, status=401)
    body = await request.read()
    event = json.loads(body)
    await request.app[DB].execute(INSERT, event["eventId"], body, event["event"], event["itemId"])
    await request.app[QUEUE].enqueue_job("sync_item", event["itemId"])  # type: ignore[attr-defined]
    return web.json_response({"status": "accepted"}, status=202)


async def servers(app: web.Application) -> AsyncIterator[None]:
    """Postgres and arq's queue."""
    db = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10)
    await db.execute(SCHEMA)
    queue = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))
    app[DB], app[QUEUE] = db, queue
    yield
    await queue.aclose()
    await db.close()


@click.command()
@click.argument("kind", type=click.Choice(["bare", "naive"]))
@click.option("--port", type=int, required=True)
def main(kind: str, port: int) -> None:
    """Serve until a signal."""
    app = web.Application()
    app.router.add_post("/webhooks/pluggy", bare if kind == "bare" else naive)
    if kind == "naive":
        app.cleanup_ctx.append(servers)
    web.run_app(app, host="127.0.0.1", port=port, loop=uvloop.new_event_loop(), access_log=None)


if __name__ == "__main__":
    main()
