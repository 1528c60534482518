"""The feed: the consumer of docs/consume.md sees every change, and none before it is visible."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from ops.demo.processes import Child, Children, children
from tests.support.stack import Stack, build_client, build_worker
from tests.support.waiting import until
from worker.infra.postgres import close_pool, open_pool
from worker.infra.redis_client import connect
from worker.maintenance.deletion_review import accept_deletions

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "consume.md"
ROUNDS = 10
OPEN_RUN = "SELECT EXISTS (SELECT FROM pluggy_sync.runs WHERE seq IS NULL)"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.M | re.S)


def consumer() -> dict[str, Any]:
    """What the document's block defines, run exactly as it stands there."""
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)  # noqa: S102 - our own document
    return names


async def consume(url: str, path: str) -> None:
    """A process that follows the feed and notes what it is shown, a line each."""
    # Unbuffered, so that a kill loses nothing that was shown.
    with open(path, "ab", buffering=0) as log:  # noqa: ASYNC230 - a local file

        async def changed(run: Any, table: str, row: Any) -> None:
            seen = [
                run["seq"],
                table,
                str(row["id"]),
                row["row_hash"].hex(),
                bool(row["deleted_at"]),
            ]
            log.write(json.dumps(seen).encode() + b"\n")
            await asyncio.sleep(0)

        names = consumer()
        # Reads again at once, so that it comes in between whatever commits out of order.
        names["asyncio"] = SimpleNamespace(sleep=lambda _: asyncio.sleep(0.002))
        await names["follow"](url, "test", changed)


async def work(url: str, redis_url: str, simulator_url: str) -> None:
    """A worker process without arq: claims and syncs whatever is due."""
    db = await open_pool(url, max_size=8, statement_cache=100)
    redis = connect(redis_url)
    async with build_client(simulator_url, redis) as client:
        worker = build_worker(db, redis, client)

        async def slot() -> None:
            while True:
                lease = await worker.claim(None)
                if lease is None:
                    await asyncio.sleep(0.02)
                else:
                    await worker.engine.sync(lease)

        await asyncio.gather(*(slot() for _ in range(3)))
    await close_pool(db)


@dataclass
class Processes:
    """Children of the test, each started again after a kill."""

    children: Children
    calls: dict[str, tuple[str, ...]]
    running: dict[str, Child]
    kills: Counter[str]

    def start(self, name: str, *call: str) -> None:
        """Run a function of this module in a process; call: its name and arguments."""
        self.calls[name] = call
        self.running[name] = self.children.start(name, ["tests.protocol.test_feed", *call])

    def kill(self, *names: str) -> None:
        """SIGKILL, at once, and new ones."""
        for name in names:
            child = self.running[name]
            assert child.running, f"{name} has died by itself:\n{child.tail()}"
            child.send(signal.SIGKILL)
        for name in names:
            self.running[name].guard.wait()
            self.kills[name] += 1
            self.start(name, *self.calls[name])


@pytest.fixture
def processes() -> Iterator[Processes]:
    with children() as started:
        yield Processes(started, {}, {}, Counter())


async def record_every_write(stack: Stack) -> None:
    """A witness of ours: every version of every row, as it commits."""
    await stack.db.execute(
        """
        CREATE TABLE written (name text, id text, run_id bigint, row_hash bytea, gone boolean);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO written
            VALUES (TG_TABLE_NAME, NEW.id::text, NEW.run_id, NEW.row_hash,
                    NEW.deleted_at IS NOT NULL);
            RETURN NULL;
        END $$;
        -- A pause between taking a place in the feed and committing: where order could be lost.
        CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(random() * 0.05);
            RETURN NULL;
        END $$;
        CREATE TRIGGER linger AFTER UPDATE ON pluggy_sync.runs
        FOR EACH ROW WHEN (NEW.seq IS NOT NULL) EXECUTE FUNCTION linger();
        """
    )
    for table in await tables_of_the_feed(stack):
        await stack.db.execute(
            f"CREATE TRIGGER note AFTER INSERT OR UPDATE ON pluggy.{table}"
            " FOR EACH ROW EXECUTE FUNCTION note()"
        )


async def tables_of_the_feed(stack: Stack) -> list[str]:
    """The tables that the documented consumer reads."""
    return [record["table_name"] for record in await stack.db.fetch(consumer()["TABLES"])]


async def lapse(stack: Stack) -> None:
    """The leases of the dead have run out; the living are fenced off, which they must survive."""
    await stack.db.execute(
        "UPDATE pluggy_sync.item_leases SET until = '-infinity' WHERE token IS NOT NULL"
    )


async def rests(stack: Stack, item_ids: list[str]) -> None:
    """Nothing is due or under way, and the consumer is at the end of the feed."""

    async def done() -> bool:
        return bool(
            await stack.db.fetchval(
                "SELECT NOT EXISTS (SELECT FROM pluggy_sync.item_sync WHERE run_at <= now())"
                " AND NOT EXISTS (SELECT FROM pluggy_sync.item_leases WHERE until > now())"
                " AND NOT EXISTS (SELECT FROM pluggy_sync.runs WHERE seq IS NULL)"
                " AND (SELECT seq FROM feed_cursors) = (SELECT max(seq) FROM pluggy_sync.runs)"
            )
        )

    async def rested() -> bool:
        if await stack.db.fetchval(
            "SELECT EXISTS (SELECT FROM pluggy_sync.runs WHERE seq IS NULL AND started_at <"
            " now() - interval '5 seconds')"
        ):
            await lapse(stack)
            # Who holds a run open that nobody is due to close any more is asked for once more.
            for item_id in item_ids:
                await stack.tell("item/updated", item_id)
        return await done()

    await until(rested, timeout_s=120.0)


def sights(path: Path) -> list[list[Any]]:
    """What was shown, in order; a line cut by a kill does not count."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"]\n")]


@pytest.fixture
async def cursors(stack: Stack) -> None:
    [statement] = [block for block in blocks("sql") if "CREATE TABLE feed_cursors" in block]
    await stack.db.execute(statement)


@pytest.mark.usefixtures("cursors")
async def test_the_documented_consumer_sees_every_change_through_kills_and_reconnects(
    stack: Stack,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    processes: Processes,
) -> None:
    await record_every_write(stack)
    log = tmp_path / "seen"
    log.touch()
    processes.start("consumer", "consume", database_url, str(log))
    for name in ("worker 1", "worker 2"):
        processes.start(name, "work", database_url, redis_url, stack.simulator.url)
    items = [(await stack.item(transactions=150))["id"] for _ in range(5)]
    for item_id in items:
        await stack.tell("item/created", item_id)
    for turn in range(ROUNDS):
        before = await stack.db.fetchval("SELECT coalesce(max(seq), 0) FROM pluggy_sync.runs")
        for item_id in items:
            wishes = {"created": 4, "updated": 3, "deleted": 1, "restated": 1}
            await stack.tell_all(await stack.collect(item_id, **wishes))
        await until(lambda before=before: goes_on(stack, before))  # type: ignore[misc]
        await disturb(stack, processes, items, turn)
    for item_id in items:
        await stack.order("sync/verify", item_id)
    await rests(stack, items)
    for item_id in items:
        await stack.assert_equal(item_id, ["transactions"])
    await every_change_was_seen(stack, log)
    lost = await stack.db.fetchval("SELECT count(*) FROM pluggy_sync.runs WHERE outcome = 'lost'")
    assert processes.kills["consumer"] >= 2
    assert processes.kills["worker 1"] + processes.kills["worker 2"] >= 2
    assert lost >= 1, "no worker was killed in the middle of a run"


async def goes_on(stack: Stack, seq: int) -> bool:
    found = await stack.db.fetchval("SELECT max(seq) FROM pluggy_sync.runs")
    return (found or 0) > seq


async def disturb(stack: Stack, processes: Processes, items: list[str], turn: int) -> None:
    """A kill of the consumer, of its connections, or of a worker in the middle of a run."""
    if turn % 3 == 0:
        processes.kill("consumer")
    elif turn % 3 == 1:
        await stack.db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%feed_cursors%' AND pid <> pg_backend_pid()"
        )
    else:
        await until(lambda: leaves_a_run(stack, processes, items), "a run is left open")
        await lapse(stack)


async def leaves_a_run(stack: Stack, processes: Processes, items: list[str]) -> bool:
    """Whether workers were killed in the middle of a run: one that is seen may end before that.

    If they are done with everything, they get more to do.
    """
    if await stack.db.fetchval(OPEN_RUN):
        processes.kill("worker 1", "worker 2")
        return bool(await stack.db.fetchval(OPEN_RUN))
    for item_id in items:
        await stack.tell("item/updated", item_id)
    return False


async def every_change_was_seen(stack: Stack, log: Path) -> None:
    """Of each row: a sight at least as new as each write; and the last sight is the last state."""
    seqs = {r["id"]: r["seq"] for r in await stack.db.fetch("SELECT id, seq FROM pluggy_sync.runs")}
    written = await stack.db.fetch("SELECT * FROM written")
    assert len(written) > 500
    newest: dict[tuple[str, str], tuple[int, str, bool]] = {}
    for seq, table, row_id, row_hash, gone in sights(log):
        stored = newest.get((table, row_id), (0, "", False))
        newest[table, row_id] = max(stored, (seq, row_hash, gone), key=lambda sight: sight[0])
    for record in written:
        key = record["name"], record["id"]
        assert key in newest, f"{key} was never shown"
        assert newest[key][0] >= seqs[record["run_id"]], f"{key} was shown too early only"
    for table in await tables_of_the_feed(stack):
        rows = await stack.db.fetch(
            f"SELECT id::text, run_id, row_hash, deleted_at FROM pluggy.{table}"  # noqa: S608 - constants
        )
        for row in rows:
            # Had its run been in the feed before this was visible, the sight would be an older one.
            state = seqs[row["run_id"]], row["row_hash"].hex(), row["deleted_at"] is not None
            assert newest[table, row["id"]] == state


@pytest.mark.usefixtures("cursors")
async def test_a_consumer_that_stops_in_the_middle_is_shown_the_rest_again(
    stack: Stack, database_url: str
) -> None:
    item = await stack.synced_item(transactions=30)
    names, shown = consumer(), list[tuple[int, str]]()
    conn = await asyncpg.connect(database_url)
    await conn.execute(names["ADD"], "mine")

    async def fails_late(run: Any, table: str, row: Any) -> None:
        shown.append((run["seq"], str(row["id"])))
        if len(shown) == 20:
            raise ConnectionError("the other side is away")

    with pytest.raises(ConnectionError):
        await names["read_on"](conn, "mine", fails_late)
    assert await conn.fetchval("SELECT seq FROM feed_cursors") == 0
    assert await names["read_on"](conn, "mine", fails_late) > 0
    assert await names["read_on"](conn, "mine", fails_late) == 0
    await conn.close()
    seen = Counter(row_id for _, row_id in shown)
    assert set(seen) >= set(await stack.live(item["id"]))
    assert max(seen.values()) == 2


@pytest.mark.usefixtures("cursors")
async def test_two_consumers_have_a_cursor_each(stack: Stack, database_url: str) -> None:
    await stack.synced_item(transactions=5)
    names, shown = consumer(), Counter[str]()
    conn = await asyncpg.connect(database_url)
    for name in ("one", "two"):
        await conn.execute(names["ADD"], name)

        async def changed(run: Any, table: str, row: Any, name: str = name) -> None:
            shown[name] += 1

        while await names["read_on"](conn, name, changed):
            pass
    await conn.close()
    assert shown["one"] == shown["two"] > 5


@pytest.mark.usefixtures("cursors")
async def test_deletions_and_decisions_come_through_the_feed(
    stack: Stack, database_url: str
) -> None:
    item = await stack.synced_item(transactions=40)
    names, gone = consumer(), list[str]()
    conn = await asyncpg.connect(database_url)
    await conn.execute(names["ADD"], "mine")

    async def changed(run: Any, table: str, row: Any) -> None:
        if table == "transactions" and row["deleted_at"] is not None:
            gone.append(str(row["id"]))

    while await names["read_on"](conn, "mine", changed):
        pass
    assert gone == []
    answer = await stack.collect(item["id"], deleted=1)
    await stack.process_all(answer)
    await names["read_on"](conn, "mine", changed)
    assert len(gone) == 1
    flagged = next(iter(await stack.live(item["id"])))
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deletion_flagged_at = now(), deletion_flag = 'x'"
        " WHERE id = $1",
        uuid.UUID(flagged),
    )
    await accept_deletions(stack.db, item_id=uuid.UUID(item["id"]))
    await names["read_on"](conn, "mine", changed)
    await conn.close()
    assert gone[1:] == [flagged]


async def test_the_feed_is_read_by_indexes_alone(stack: Stack) -> None:
    names = consumer()
    async with stack.db.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        for table in await tables_of_the_feed(stack):
            query = f"EXPLAIN SELECT * FROM pluggy.{table} WHERE run_id = 1"  # noqa: S608 - constants
            plan = "\n".join(record[0] for record in await conn.fetch(query))
            assert "_run" in plan, table
            assert "Seq Scan" not in plan, table
        plan = "\n".join(
            r[0] for r in await conn.fetch("EXPLAIN " + names["RUNS"].replace("$1", "1"))
        )
        assert "runs_seq_key" in plan


async def test_every_row_names_the_run_and_event_that_wrote_it_last(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    answer = await stack.collect(item["id"], created=1)
    await stack.process_all(answer)
    [why] = [block for block in blocks("sql") if "event_ids" in block]
    rows = await stack.live(item["id"])
    newest = max(rows.values(), key=lambda row: row["first_seen_at"])
    announced = await stack.db.fetch(why.replace("'…'", f"'{newest['id']}'"))
    assert "transactions/created" in {record["event"] for record in announced}
    assert {record["kind"] for record in announced} == {"sync"}
    for record in announced:
        assert record["finished_at"] - record["started_at"] < timedelta(minutes=1)
        assert record["api_requests"] > 0


async def test_a_run_records_what_it_did_and_what_pluggy_said_when_it_failed(stack: Stack) -> None:
    item = await stack.synced_item(transactions=20)
    await stack.simulator.apost("/_simulator/clock", {"advance": 7200})
    answer = await stack.collect(item["id"], created=2)
    await stack.fault("GET /v2/transactions", kind="status", status=500, times=1)
    await stack.process_all(answer)
    [first, *_, failed] = await stack.db.fetch(
        "SELECT * FROM pluggy_ops.runs WHERE item_id = $1 ORDER BY id", item["id"]
    )
    assert (first["events"], first["outcome"]) == (["item/created"], "done")
    assert (first["failure_code"], first["error_id"]) == (None, None)
    assert first["inserted"] > 0
    assert first["duration_s"] is not None
    assert failed["outcome"] == "partial"
    assert failed["failure_code"].startswith("500:")
    assert failed["error_id"]
    assert "transactions/created" in failed["events"]


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
