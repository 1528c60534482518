"""Database roles: each can do its work, and is refused everything else."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
from arq.connections import ArqRedis
from click.testing import CliRunner

import embedded
from ops.cli.main import main
from ops.migrations import migrate
from ops.roles import DASHBOARD, OPS, RECEIVER, ROLES, WORKER, RolesRefused, as_role
from tests.support.kept_database import execute, with_database
from tests.support.ops import open_ops
from tests.support.receiver import SECRET, Client, ReceiverProcess, event_body
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack import Stack, build_client, build_worker, fill_budget, now
from tests.support.statements import STATEMENTS
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess
from worker.inbox.accept import accept_events
from worker.inbox.events import parse_webhook
from worker.infra.postgres import Pool, close_pool, open_pool
from worker.infra.sql_files import SQL_DIR
from worker.maintenance.deletion_review import accept_deletions, refuse_deletions
from worker.maintenance.purge import Purger
from worker.maintenance.reconciliation import run_reconciliations
from worker.maintenance.reference_data import refresh_reference_data
from worker.maintenance.restatements import link_restatements
from worker.store import operating
from worker.store.deletions import list_deletions
from worker.store.waits import register_item

DENIED = asyncpg.InsufficientPrivilegeError
ITEM = uuid.UUID("8a1b0000-0000-4000-8000-000000000001")
FLAGGED = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"
OPEN_FINANCE = 600
# Of the queries of the service, by role. The demo's sabotage and the adoption are the owner's.
NOT_THE_WORKERS = {"adopt_installation"}
THE_RECEIVERS = {"accept_events", "add_delivery_counts"}
THE_DASHBOARDS = {"overview", "backlog", "lag", "list_dead_letters", "item_freshness"}
THE_DASHBOARDS |= {"list_deletions", "findings", "list_worklist", "freshness_of_items"}
THE_DASHBOARDS |= {"drift_of_items", "postgres_facts", "refused_deliveries"}
THE_DASHBOARDS |= {"end_stalled_copies"}  # it ends sessions of the role itself only


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of its own, whatever is given: roles belong to the whole server."""
    with embedded.database(None) as url:
        yield url


@pytest.fixture
async def owned(server: str) -> AsyncIterator[str]:
    """A database of an ordinary owner who may make roles."""
    name = f"owner_{secrets.token_hex(4)}"
    await execute(server, f"CREATE ROLE {name} LOGIN NOSUPERUSER CREATEROLE")
    await execute(server, f"CREATE DATABASE {name} OWNER {name}")
    yield as_role(with_database(server, name), name)
    await execute(server, f"DROP DATABASE {name} WITH (FORCE)")
    await execute(server, f"DROP ROLE IF EXISTS {', '.join(ROLES)}")
    await execute(server, f"DROP ROLE {name}")


@pytest.fixture
async def site(owned: str) -> str:
    """The same migrated, with roles."""
    assert (await migrate(owned, roles=True))[-1] == "roles"
    return owned


@asynccontextmanager
async def pool_as(url: str, role: str) -> AsyncIterator[Pool]:
    db = await open_pool(as_role(url, role), max_size=10, statement_cache=100)
    try:
        yield db
    finally:
        await close_pool(db)


def user_of(url: str) -> str:
    return urlsplit(url).username or ""


async def allowed(db: Pool) -> set[str]:
    """Queries of the service that the role may run: planned for any parameters, never executed."""
    return {name for name, statement in STATEMENTS.items() if await may(db, statement)}


async def may(db: Pool, statement: str) -> bool:
    try:
        async with db.acquire() as conn:
            # By the simple protocol: parameters stay what they are.
            await conn.execute(f"EXPLAIN (GENERIC_PLAN) {statement}")
    except DENIED:
        return False
    return True


async def test_the_receiver_and_the_worker_do_their_work_under_their_roles(
    site: str, redis: ArqRedis, redis_url: str, quiet_simulator: SimulatorProcess
) -> None:
    await fill_budget(redis)
    made = await quiet_simulator.apost("/_simulator/items", {"transactions": 40})
    owner = await open_pool(site, max_size=2, statement_cache=100)

    async def applied() -> bool:
        states = "SELECT array_agg(DISTINCT state) FROM pluggy_sync.webhook_events"
        return bool(await owner.fetchval(states) == ["applied"])

    async with (
        ReceiverProcess(
            DATABASE_URL=as_role(site, RECEIVER), REDIS_URL=redis_url, WEBHOOK_SECRET=SECRET
        ) as receiver,
        WorkerProcess(as_role(site, WORKER), redis_url, quiet_simulator.url) as worker,
        aiohttp.ClientSession() as session,
    ):
        receiver_client = Client(f"http://127.0.0.1:{await receiver.port()}", session)
        assert (await receiver_client.call("GET", "/readyz")).status == 200
        first = event_body(made["id"])
        for _ in range(2):
            assert (await receiver_client.deliver(first)).status == 202
        await until(applied)
        receiver.stop()
        worker.stop()
        assert (await receiver.ended(), await worker.ended()) == (0, 0)
        lines = receiver.lines + worker.lines
    answers = "SELECT sum(deliveries) FROM pluggy_sync.delivery_counts"
    assert await owner.fetchval(answers) == 2
    assert await owner.fetchval("SELECT count(*) FROM pluggy_live.transactions") == 40
    await close_pool(owner)
    # The Redis of the tests has no append-only file, and that is said.
    troubles = [
        line
        for line in lines
        if json.loads(line).get("level") not in ("info", "debug") and "redis_unsafe" not in line
    ]
    assert troubles == []


async def test_the_worker_s_role_carries_an_item_through_its_whole_life(
    site: str, redis: ArqRedis, quiet_simulator: SimulatorProcess
) -> None:
    await quiet_simulator.adelete("/_simulator/faults")
    await fill_budget(redis)
    async with pool_as(site, WORKER) as db, build_client(quiet_simulator.url, redis) as client:
        stack = Stack(db, redis, quiet_simulator, client, build_worker(db, redis, client))
        item = await stack.synced_item(transactions=60, connectorId=OPEN_FINANCE)
        await stack.collect(item["id"], created=3, updated=2, deleted=2, restated=1)
        await stack.process_order("sync/verify", item["id"])
        async with pool_as(site, user_of(site)) as owner:
            await replace(stack, db=owner).assert_equal(item["id"])
        await refresh_reference_data(db, client)
        await run_reconciliations(db)
        await link_restatements(db)
        await stack.client_deletes(item["id"])
        await stack.process("item/deleted", item["id"])
        purger = Purger(db, client, after=timedelta(0))
        while await purger.purge():
            pass
        assert await db.fetchval("SELECT count(*) FROM pluggy_sync.purge_receipts") == 1


async def test_each_role_may_run_its_own_queries_and_no_others(site: str) -> None:
    async with pool_as(site, RECEIVER) as db:
        its_own = {n for n in await allowed(db) - without_a_table() if is_write(STATEMENTS[n])}
        assert its_own == THE_RECEIVERS
        # Whatever else it may run tells of keys and states, not of what was stored.
        assert await readable(db, "webhook_events") == {
            *("id", "event_id", "body_sha256", "item_id", "lane", "state"),
        }
    async with pool_as(site, DASHBOARD) as db:
        assert await allowed(db) - without_a_table() == THE_DASHBOARDS
    async with pool_as(site, WORKER) as db:
        refused = STATEMENTS.keys() - await allowed(db)
        of_views = {name for name in refused if "pluggy_ops." in STATEMENTS[name]}
        of_views |= {name for name in refused if "pluggy_live." in STATEMENTS[name]}
        assert refused - of_views == NOT_THE_WORKERS
    async with pool_as(site, OPS) as db:
        writes = {n for n in await allowed(db) if is_write(STATEMENTS[n])}
        assert writes == {
            *(
                "requeue_dead_letters",
                "accept_transaction_deletions",
                "refuse_transaction_deletions",
                *("end_claim", "make_due"),
                "open_run",
                "close_run",
                "order_erasure",
                "decide_account_link",
                "register_item",
            ),
            # What needs the same rights as these.
            *(
                "tombstone_transactions",
                "mark_transaction_deletions",
                "unmark_transaction_deletions",
                "mark_link_checked",
            ),
            "ignore_events_without_item",
            "ignore_unknown_events",
            *("close_lost_runs", "note_run_failure", "purge_runs"),
            # Of an account that is accepted as gone all goes, also what was still to be read of it.
            *("tombstone_accounts", "tombstone_bills", "tombstone_owned_transactions"),
            *("refuse_account_deletions", "miss_accounts"),
            *("reset_owner", "delete_unknown_item", "delete_expired_walk_pages", "finish_walk"),
            "purge_walk_pages",
        }


async def readable(db: Pool, table: str) -> set[str]:
    """Columns of a table of our state that the role may read."""
    found = await db.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
        " AND has_column_privilege(attrelid, attname, 'SELECT')",
        f"pluggy_sync.{table}",
    )
    return {record["attname"] for record in found}


def without_a_table() -> set[str]:
    """Queries that touch no table: whoever may connect may run them."""
    return {name for name, text in STATEMENTS.items() if "pluggy" not in text.partition("\n")[2]}


def is_write(statement: str) -> bool:
    body = "\n".join(line for line in statement.splitlines() if not line.startswith("--"))
    verbs = ("INSERT INTO", "UPDATE pluggy", "DELETE FROM", "delete_batch(")
    return any(
        verb in body
        for verb in (*verbs, "revive_events(", "register_item(", "close_run(", "end_claim(")
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT body FROM pluggy_sync.webhook_events",
        "DELETE FROM pluggy_sync.webhook_events",
        "UPDATE pluggy_sync.webhook_events SET body = ''",
        "UPDATE pluggy_sync.item_leases SET until = now()",
        "SELECT id FROM pluggy.items",
        "SELECT id FROM pluggy_live.items",
        "SELECT light FROM pluggy_ops.overview",
        "SELECT client_id FROM pluggy_sync.installation",
        "SELECT id FROM pluggy_sync.runs",
        "CREATE TABLE pluggy_sync.x (x int)",
    ],
)
async def test_the_receiver_is_refused(site: str, statement: str) -> None:
    async with pool_as(site, RECEIVER) as db:
        with pytest.raises(DENIED):
            await db.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE pluggy.x (x int)",
        "CREATE TABLE pluggy_sync.x (x int)",
        "CREATE SCHEMA x",
        "ALTER TABLE pluggy.items ADD COLUMN x int",
        "DROP TABLE pluggy.loans",
        "TRUNCATE pluggy.loans",
        "UPDATE pluggy_sync.installation SET client_id = 'x'",
        "DELETE FROM pluggy_sync.purge_receipts",
        "INSERT INTO pluggy_sync.migrations VALUES ('9999_x', '')",
        "CREATE ROLE x",
        "ALTER ROLE pluggy_receiver SUPERUSER",
    ],
)
async def test_the_worker_is_refused(site: str, statement: str) -> None:
    async with pool_as(site, WORKER) as db:
        with pytest.raises(DENIED):
            await db.execute(statement)


async def test_the_worker_cannot_migrate(site: str, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    (newer / "migrations" / "9999_next.sql").write_text("CREATE TABLE pluggy.x (x int);")
    for role in ROLES:
        with pytest.raises(DENIED):
            await migrate(as_role(site, role), sql_dir=newer)
    assert (await migrate(site, sql_dir=newer))[0] == "9999_next"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT balance FROM pluggy_sync.balance_snapshots",
        "SELECT body FROM pluggy_sync.webhook_events",
        "SELECT body FROM pluggy_sync.rejected_rows",
        "SELECT payload FROM pluggy.items",
        "SELECT amount FROM pluggy.transactions",
        "SELECT full_name FROM pluggy.identities",
        "SELECT id FROM pluggy_live.transactions",
        "DELETE FROM pluggy_sync.webhook_events",
        "UPDATE pluggy_sync.webhook_events SET body = ''",
        "INSERT INTO pluggy_sync.webhook_events (event_id) VALUES ('x')",
        "INSERT INTO pluggy_sync.halts DEFAULT VALUES",
        "UPDATE pluggy_sync.halts SET halted_at = NULL",
        "UPDATE pluggy.transactions SET amount = 0",
        "UPDATE pluggy.items SET deleted_at = now()",
        "CREATE TABLE pluggy_ops.x (x int)",
    ],
)
async def test_ops_is_refused(site: str, statement: str) -> None:
    async with pool_as(site, OPS) as db:
        with pytest.raises(DENIED):
            await db.execute(statement)


async def test_ops_reads_requeues_and_decides(site: str) -> None:
    owner = await open_pool(site, max_size=2, statement_cache=100)
    await stage_a_dead_letter_and_two_flags(owner)
    async with pool_as(site, OPS) as db:
        assert await db.fetchval("SELECT dead_letters FROM pluggy_ops.overview") == 1
        assert (await operating.show_item(db, item_id=ITEM)) is not None
        assert len(await operating.count_item_rows(db, item_id=ITEM)) == 1
        [requeued] = await operating.requeue_dead_letters(
            db, ids=None, reason=None, item_id=ITEM, connector_id=None
        )
        assert requeued.made_due
        assert (await register_item(db, uuid.uuid4())).made_due
        first, second = [row.transaction_id for row in await list_deletions(db)]
        [tombstoned] = await accept_deletions(db, transaction_ids=[first])
        [kept] = await refuse_deletions(db, transaction_ids=[second])
        assert (tombstoned.transaction_ids, kept.transaction_ids) == ((first,), (second,))
        assert await db.fetchval("SELECT client_user_id FROM pluggy.items") == "somebody"
    assert await owner.fetchval("SELECT count(deleted_at) FROM pluggy.transactions") == 1
    await close_pool(owner)


async def test_the_ops_process_does_its_work_under_its_role(site: str, redis_url: str) -> None:
    owner = await open_pool(site, max_size=2, statement_cache=100)
    await stage_a_dead_letter_and_two_flags(owner)
    event = await owner.fetchval("SELECT id FROM pluggy_sync.webhook_events")
    async with open_ops(as_role(site, OPS), redis_url) as ops:
        assert (await ops.call("GET", f"/v1/items/{ITEM}")).status == 200
        assert (await ops.wait(ITEM, timeout=0)).status == 202
        assert (await ops.call("POST", f"/v1/dead-letters/{event}/requeue")).status == 200
        registered = await ops.call("POST", "/v1/items", json={"itemId": str(uuid.uuid4())})
        assert registered.body == {"status": "accepted"}
        assert (await ops.call("GET", "/readyz")).status == 200
        assert '<h1 class="red">' in (await ops.call("GET", "/")).body  # no worker is alive
        # What it asks first for a token, and then Pluggy, which is not there.
        token = await ops.call("POST", "/v1/connect-tokens", json={"clientUserId": "u"})
        assert (token.status, token.body["error"]) == (502, "pluggy_unavailable")
    await close_pool(owner)


async def stage_a_dead_letter_and_two_flags(owner: Pool) -> None:
    body = json.dumps(event_body(ITEM)).encode()
    await accept_events(owner, [parse_webhook(body, now())])
    await owner.execute("UPDATE pluggy_sync.webhook_events SET state = 'dead', reason = '404:X'")
    await owner.execute("UPDATE pluggy_sync.item_sync SET run_at = NULL")
    await owner.execute(
        "INSERT INTO pluggy.items (id, client_user_id, payload, row_hash, row_version, run_id)"
        " VALUES ($1, 'somebody', '{}', '', 1, 1)",
        ITEM,
    )
    await owner.execute(
        "INSERT INTO pluggy.transactions (item_id, id, account_id, amount, date, posted_on,"
        " payload, row_hash, row_version, run_id, deletion_flagged_at)"
        " SELECT $1, md5(n::text)::uuid, $1, 1, now(), current_date, '{}', '', 1, 1, now()"
        " FROM generate_series(1, 2) AS n",
        ITEM,
    )


@pytest.mark.parametrize(
    ("role", "arguments", "refused"),
    [
        (OPS, ["worklist"], False),
        (OPS, ["items", "show", str(ITEM)], False),
        (OPS, ["dead-letters", "list"], False),
        (OPS, ["dead-letters", "requeue", "--all"], False),
        (OPS, ["deletions", "accept", "--item", str(ITEM)], False),
        (OPS, ["why", FLAGGED], False),
        (OPS, ["items", "register", str(ITEM)], True),
        (OPS, ["resync", "--all"], True),
        (WORKER, ["items", "register", str(ITEM)], False),
        (WORKER, ["resync", "--all"], False),
        (DASHBOARD, ["dead-letters", "requeue", "--all"], True),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else str(value),
)
async def test_commands_run_with_the_role_that_they_are_for(
    site: str, redis_url: str, role: str, arguments: list[str], refused: bool
) -> None:
    owner = await open_pool(site, max_size=2, statement_cache=100)
    await stage_a_dead_letter_and_two_flags(owner)
    await close_pool(owner)
    ours = {"DATABASE_URL": as_role(site, role), "REDIS_URL": redis_url}
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=ours)
    assert result.exit_code == refused, result.output
    assert ("the database user may not do this" in result.output) is refused


async def test_status_runs_with_the_role_of_operators(site: str, redis_url: str) -> None:
    ours = {"DATABASE_URL": as_role(site, OPS), "REDIS_URL": redis_url}
    result = await asyncio.to_thread(CliRunner().invoke, main, ["status"], env=ours)
    assert result.exit_code == 2, result.output  # no worker is alive
    assert "no_worker" in result.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM pluggy.items",
        "SELECT id FROM pluggy_live.transactions",
        "SELECT id FROM pluggy_sync.webhook_events",
        "SELECT client_id FROM pluggy_sync.installation",
    ],
)
async def test_a_dashboard_is_refused(site: str, statement: str) -> None:
    async with pool_as(site, DASHBOARD) as db:
        with pytest.raises(DENIED):
            await db.execute(statement)


async def test_a_dashboard_reads_every_view_for_operators_and_writes_nothing(site: str) -> None:
    async with pool_as(site, DASHBOARD) as db:
        views = await db.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'pluggy_ops'")
        assert len(views) >= 10
        for view in views:
            await db.fetch(f"SELECT * FROM pluggy_ops.{view['viewname']}")  # noqa: S608 - of pg_views
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await db.execute("CREATE TEMP TABLE x (x int)")


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_waits_for_nothing_without_end(site: str, role: str) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    async with pool_as(site, role) as db:
        for name in names:
            assert await db.fetchval(f"SELECT setting::int FROM pg_settings WHERE name = '{name}'")  # noqa: S608 - constants
    elsewhere = await asyncpg.connect(as_role(with_database(site, "postgres"), role))
    # Another database of the same server is not ours to set.
    assert await elsewhere.fetchval("SHOW statement_timeout") == "0"
    await elsewhere.close()


async def test_roles_have_no_password_until_the_operator_gives_them_one(
    site: str, server: str
) -> None:
    conn = await asyncpg.connect(server)
    stored = await conn.fetch(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolpassword IS NULL AS locked"
        " FROM pg_authid WHERE rolname = ANY ($1)",
        ROLES,
    )
    await conn.close()
    assert [tuple(record) for record in stored] == [(True, False, False, False, True)] * len(ROLES)


async def test_making_roles_again_takes_away_what_nobody_granted_here(site: str) -> None:
    await execute(site, f"GRANT SELECT ON pluggy.identities TO {DASHBOARD}")
    await execute(site, f"GRANT USAGE ON SCHEMA pluggy TO {DASHBOARD}")
    assert await migrate(site, roles=True) == ["roles"]
    async with pool_as(site, DASHBOARD) as db:
        with pytest.raises(DENIED):
            await db.fetch("SELECT * FROM pluggy.identities")


async def test_what_a_later_release_adds_is_granted_by_its_migration(
    site: str, server: str, tmp_path: Path
) -> None:
    app = f"app_{uuid.uuid4().hex[:8]}"
    await execute(server, f"CREATE ROLE {app}")
    await execute(site, f"GRANT USAGE ON SCHEMA pluggy_live TO {app}")
    await execute(site, f"GRANT SELECT ON pluggy_live.transactions TO {app}")
    newer = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    (newer / "migrations" / "9999_next.sql").write_text("CREATE TABLE pluggy_sync.x (x int);")
    view = newer / "views" / "pluggy_ops_x.sql"
    view.write_text("CREATE VIEW pluggy_ops.x AS SELECT x FROM pluggy_sync.x;")
    assert await migrate(site, sql_dir=newer) == ["9999_next", "views", "roles"]
    async with pool_as(site, WORKER) as db:
        await db.execute("INSERT INTO pluggy_sync.x VALUES (1)")
    async with pool_as(site, DASHBOARD) as db:
        assert await db.fetchval("SELECT x FROM pluggy_ops.x") == 1
    readable = f"SELECT has_table_privilege('{app}', 'pluggy_live.transactions', 'SELECT')"
    conn = await asyncpg.connect(site)
    # Views are created again, with the grants that others have made.
    assert await conn.fetchval(readable)
    await conn.close()
    await execute(with_database(server, urlsplit(site).path[1:]), f"DROP OWNED BY {app}")
    await execute(server, f"DROP ROLE {app}")


async def test_without_createrole_it_says_what_to_do_and_changes_nothing(
    owned: str, server: str
) -> None:
    owner = user_of(owned)
    await execute(server, f"ALTER ROLE {owner} NOCREATEROLE")
    with pytest.raises(RolesRefused, match=f"ALTER ROLE {owner} CREATEROLE"):
        await migrate(owned, roles=True)
    conn = await asyncpg.connect(owned)
    assert await conn.fetchval("SELECT to_regnamespace('pluggy_sync')") is None
    await conn.close()


async def test_an_owner_who_may_no_longer_make_roles_still_migrates(
    site: str, server: str, tmp_path: Path
) -> None:
    owner = user_of(site)
    await execute(server, f"ALTER ROLE {owner} NOCREATEROLE")
    newer = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    (newer / "migrations" / "9999_next.sql").write_text("CREATE TABLE pluggy_sync.x (x int);")
    assert (await migrate(site, sql_dir=newer))[-1] == "roles"
