"""Findings: each fault has a row while it lasts, with a weight, a light and a command."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import click
import pytest

from ops.cli.main import main
from tests.operating.test_cli import CommandLine
from tests.support.stack import Stack, now
from tests.syncing.test_parked_walks import park
from worker.inbox.events import parse_webhook
from worker.store import halts, reconciliation, sweep
from worker.store.deliveries import add_delivery_counts

OPEN_FINANCE = 600
KEPT = '{"event": "%s", "eventId": "%s", "itemId": "unreadable"}'


async def workers(stack: Stack, seen: str = "now()") -> None:
    """A worker that was last seen at this time."""
    await stack.db.execute(
        f"INSERT INTO pluggy_sync.workers (worker_id, slots, seen_at) VALUES ('w', 20, {seen})"  # noqa: S608 - constants
        " ON CONFLICT (worker_id) DO UPDATE SET seen_at = excluded.seen_at"
    )


async def findings(stack: Stack) -> dict[str, dict[str, Any]]:
    """By kind, the heaviest first."""
    found = [dict(r) for r in await stack.db.fetch("SELECT * FROM pluggy_ops.findings")]
    assert [r["weight"] for r in found] == sorted((r["weight"] for r in found), reverse=True)
    kinds = {row["kind"]: row for row in found}
    assert len(kinds) == len(found)
    return kinds


async def overview(stack: Stack) -> dict[str, Any]:
    row = await stack.db.fetchrow("SELECT * FROM pluggy_ops.overview")
    assert row is not None
    return dict(row)


async def of_item(stack: Stack, kind: str, item_id: str | None) -> dict[str, Any]:
    """The one row of the worklist."""
    [row] = await stack.db.fetch(
        "SELECT * FROM pluggy_ops.worklist WHERE kind = $1 AND item_id IS NOT DISTINCT FROM $2",
        kind,
        item_id,
    )
    return dict(row)


async def item_row(stack: Stack, item_id: str, change: str) -> None:
    """The item as Pluggy would show it after some days."""
    await stack.db.execute(f"UPDATE pluggy.items SET {change} WHERE id = $1", item_id)  # noqa: S608 - constants


async def halted(stack: Stack, _: str) -> None:
    await halts.halt(
        stack.db,
        failure_code="410:GONE",
        advice="Update pluggy-sync.",
        probe_every=timedelta(minutes=1),
    )


async def down(stack: Stack, _: str) -> None:
    await halts.halt(
        stack.db, failure_code="pluggy_down", advice="stored", probe_every=timedelta(seconds=5)
    )


async def no_worker(stack: Stack, _: str) -> None:
    await workers(stack, "now() - interval '31 seconds'")


async def waiting_work(stack: Stack, item_id: str) -> None:
    await stack.tell("item/updated", item_id)
    await stack.shift(timedelta(seconds=61))


async def refused(stack: Stack, _: str) -> None:
    await deliveries(stack, "unauthorized", 60)


async def deliveries(stack: Stack, answer: str, count: int, minutes_ago: int = 0) -> None:
    await add_delivery_counts(
        stack.db,
        minutes=[now().replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)],
        events=[""],
        answers=[answer],
        deliveries=[count],
    )


async def redis_outage(stack: Stack, _: str) -> None:
    await sweep.beat_worker(stack.db, worker_id="w", slots=20, redis_outage="redis_read_only")


async def redis_evicts(stack: Stack, _: str) -> None:
    await redis_settings(stack, ["append_only_off", "may_evict"])


async def redis_settings(stack: Stack, unsafe: list[str]) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.redis_settings (unsafe) VALUES ($1)"
        " ON CONFLICT (only_row) DO UPDATE SET unsafe = excluded.unsafe",
        unsafe,
    )


async def parked(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.parked_products"
        " (product, endpoint, failure_code, items, advice, probe_at)"
        " VALUES ('loans', 'GET /loans', '403:FORBIDDEN', 5, 'advice', now())"
    )
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET parked_at = now(), stale_reason = '403:FORBIDDEN'"
        " WHERE item_id = $1 AND product = 'loans'",
        item_id,
    )


async def wrong_subscription(stack: Stack, _: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.subscriptions (event, state, since)"
        " VALUES ('all', 'missing', now() - interval '1 hour')"
    )


async def missed(stack: Stack, item_id: str) -> None:
    await stack.shift(timedelta(days=1))  # its last event is long ago
    await reconciliation.note_missed_webhook(
        stack.db, item_id=uuid.UUID(item_id), source_updated_at=now(), collected_at=now()
    )
    await stack.shift(timedelta(hours=3, minutes=1))
    await reconciliation.judge_missed_webhooks(stack.db)
    await workers(stack)


async def unknown_item(stack: Stack, _: str) -> None:
    await stack.process("item/updated", str(uuid.uuid4()))


async def dead(stack: Stack, item_id: str) -> None:
    await died_of(stack, item_id, "500:no_code")


async def refused_by_pluggy(stack: Stack, item_id: str) -> None:
    await died_of(stack, item_id, "404:ACCOUNT_NOT_FOUND")


async def died_of(stack: Stack, item_id: str, reason: str) -> None:
    await stack.process("item/updated", item_id)
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = 'dead', reason = $1"
        " WHERE event = 'item/updated'",
        reason,
    )


async def flagged(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deletion_flagged_at = now(), deletion_flag = 'no_witness'"
        " WHERE item_id = $1",
        item_id,
    )


async def kept(stack: Stack, _: str) -> None:
    for name in ("item/updated", "credit/updated"):
        body = KEPT % (name, uuid.uuid4())
        await stack.accept(parse_webhook(body.encode(), now()))


async def rejected(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.rejected_rows (item_id, product, row_id, reason, body, run_id)"
        " VALUES ($1, 'identities', 'x', 'amount', 'x', 1)",
        item_id,
    )


async def verify_late(stack: Stack, item_id: str) -> None:
    await stack.order("sync/verify", item_id)
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events SET accepted_at = now() - interval '49 hours'"
        " WHERE event = 'sync/verify'"
    )
    await stack.db.execute("UPDATE pluggy_sync.item_sync SET run_at = now() + interval '1 hour'")


async def never_due(stack: Stack, item_id: str) -> None:
    await stack.order("sync/recent", item_id)
    await stack.shift(timedelta(minutes=2))
    await workers(stack)
    await stack.db.execute("UPDATE pluggy_sync.item_sync SET run_at = NULL")


async def purge_late(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.purges (item_id, begun_at, failure_code)"
        " VALUES ($1, now() - interval '25 hours', '500:no_code')",
        item_id,
    )


async def reads_failing(stack: Stack, item_id: str) -> None:
    await stack.fault("GET /accounts", kind="status", status=500, rate=1.0)
    await stack.update(item_id)


async def reference_data(stack: Stack, _: str) -> None:
    await stack.db.execute(
        "UPDATE pluggy_sync.reference_data_sync SET failing_since = now() - interval '2 hours',"
        " failure_code = '500:no_code' WHERE product = 'connectors'"
    )


async def overdue(stack: Stack, item_id: str) -> None:
    await item_row(stack, item_id, "next_auto_sync_at = now() - interval '25 hours'")


async def stuck(stack: Stack, item_id: str) -> None:
    await item_row(
        stack, item_id, "status = 'UPDATING', source_updated_at = now() - interval '2 days'"
    )


async def bank_error(stack: Stack, item_id: str) -> None:
    await stack.collect(item_id, status="SITE_NOT_AVAILABLE")
    await stack.process("item/error", item_id)


async def unknown_length(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "UPDATE pluggy_sync.product_sync SET incomplete_reason = 'list_length_unknown'"
        " WHERE item_id = $1 AND product = 'loans'",
        item_id,
    )


async def incomplete_reference_data(stack: Stack, _: str) -> None:
    await stack.db.execute(
        "UPDATE pluggy_sync.reference_data_sync SET incomplete_reason = 'list_length_unknown',"
        " complete_read_at = now() WHERE product = 'connectors'"
    )


async def authorization_pending(stack: Stack, item_id: str) -> None:
    await item_row(stack, item_id, "has_resources_pending_authorization = true")


async def monthly_quota(stack: Stack, item_id: str) -> None:
    await stack.update(item_id, partial=["INVESTMENTS"], warningCode="423")


async def bank_warning(stack: Stack, item_id: str) -> None:
    await stack.update(item_id, warned=["INVESTMENTS"])


async def card_to_decide(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.account_links (item_id, account_id, superseded_by_item_id,"
        " superseded_by, state, reason, matching_rows, compared_rows, run_id)"
        " SELECT $1, id, $1, id, 'proposed', 'same_last_digits', 0, 1, 1 FROM pluggy.accounts"
        " WHERE item_id = $1 LIMIT 1",
        item_id,
    )


async def withdrawn(stack: Stack, item_id: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.withdrawn_connectors (connector_id, unlisted_at, run_id)"
        " SELECT connector_id, now(), 1 FROM pluggy.items WHERE id = $1",
        item_id,
    )


async def login_error(stack: Stack, item_id: str) -> None:
    await stack.collect(item_id, status="LOGIN_ERROR")
    await stack.process("item/error", item_id)


async def expiring(stack: Stack, item_id: str) -> None:
    await item_row(stack, item_id, "consent_expires_at = now() + interval '13 days'")


async def waiting(stack: Stack, item_id: str) -> None:
    await item_row(
        stack,
        item_id,
        "status = 'WAITING_USER_INPUT', source_updated_at = now() - interval '2 days'",
    )


async def no_auto_sync(stack: Stack, item_id: str) -> None:
    await item_row(stack, item_id, "next_auto_sync_at = NULL")


async def not_registered(stack: Stack, _: str) -> None:
    await stack.db.execute(
        "INSERT INTO pluggy_sync.unknown_items (item_id, found_at)"
        " VALUES (gen_random_uuid(), now() - interval '2 hours')"
    )


Fix = Callable[[Stack, str], Awaitable[None]]
KINDS: dict[str, tuple[Fix, str, str]] = {
    "halted": (halted, "red", "us"),
    "no_worker": (no_worker, "red", "us"),
    "pluggy_down": (down, "yellow", "pluggy"),
    "work_waits": (waiting_work, "yellow", "us"),
    "redis_outage": (redis_outage, "yellow", "us"),
    "redis_unsafe": (redis_evicts, "yellow", "us"),
    "deliveries_refused": (refused, "yellow", "us"),
    "product_parked": (parked, "yellow", "pluggy"),
    "subscription": (wrong_subscription, "yellow", "us"),
    "missed_webhooks": (missed, "yellow", "us"),
    "item_not_found": (unknown_item, "yellow", "us"),
    "dead_letters": (dead, "yellow", "us"),
    "refused_by_pluggy": (refused_by_pluggy, "yellow", "us"),
    "flagged_deletions": (flagged, "yellow", "us"),
    "events_kept": (kept, "yellow", "us"),
    "rows_rejected": (rejected, "yellow", "us"),
    "list_length_unknown": (unknown_length, "yellow", "us"),
    "reference_data_incomplete": (incomplete_reference_data, "yellow", "us"),
    "verify_late": (verify_late, "yellow", "us"),
    "never_due": (never_due, "yellow", "us"),
    "purge_late": (purge_late, "yellow", "pluggy"),
    "reads_failing": (reads_failing, "yellow", "pluggy"),
    "reference_data_failing": (reference_data, "yellow", "pluggy"),
    "collection_overdue": (overdue, "yellow", "pluggy"),
    "collection_stuck": (stuck, "yellow", "pluggy"),
    "bank_error": (bank_error, "yellow", "bank"),
    "authorization_pending": (authorization_pending, "info", "user"),
    "monthly_quota": (monthly_quota, "yellow", "bank"),
    "bank_warning": (bank_warning, "yellow", "bank"),
    "account_link": (card_to_decide, "info", "us"),
    "item_not_registered": (not_registered, "info", "us"),
    "connector_withdrawn": (withdrawn, "info", "user"),
    "reconnect": (login_error, "info", "user"),
    "consent_expiring": (expiring, "info", "user"),
    "waiting_for_user": (waiting, "info", "user"),
    "no_auto_sync": (no_auto_sync, "info", "user"),
}
OF_THE_SERVICE = {
    "reference_data_incomplete",
    "halted",
    "no_worker",
    "pluggy_down",
    "redis_outage",
    "redis_unsafe",
    "product_parked",
    "work_waits",
    "deliveries_refused",
    "reference_data_failing",
}


async def test_a_service_that_is_well_has_no_findings(stack: Stack) -> None:
    await workers(stack)
    await stack.synced_item(transactions=10, connectorId=OPEN_FINANCE)
    await deliveries(stack, "accepted", 60)
    assert await findings(stack) == {}
    shown = await overview(stack)
    assert (shown["light"], shown["sentence"], shown["since"]) == ("green", "All is well.", None)
    assert await stack.db.fetch("SELECT * FROM pluggy_ops.worklist") == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_wrong_has_its_row_and_its_light(stack: Stack, kind: str) -> None:
    make_wrong, severity, blocked_on = KINDS[kind]
    item = await stack.synced_item(transactions=10, connectorId=OPEN_FINANCE)
    await workers(stack)
    assert await findings(stack) == {}
    await make_wrong(stack, item["id"])
    found = await findings(stack)
    assert set(found) == {kind}
    row = found[kind]
    assert (row["severity"], row["blocked_on"]) == (severity, blocked_on)
    assert row["how_many"] >= 1
    assert row["what"]
    assert row["since"] is not None
    shown = await overview(stack)
    assert shown["light"] == ("green" if severity == "info" else severity)
    said = (row["what"], row["since"]) if severity != "info" else ("All is well.", None)
    assert (shown["sentence"], shown["since"]) == said
    works = await stack.db.fetch("SELECT * FROM pluggy_ops.worklist")
    assert {w["kind"] for w in works} == ({kind} - OF_THE_SERVICE)
    for command in [row["command"], *(w["command"] for w in works)]:
        check_command(command)
    for work in works:
        assert (work["severity"], work["blocked_on"]) == (severity, blocked_on)


async def test_a_walk_that_is_never_due_is_found_unless_its_product_is_parked(
    stack: Stack,
) -> None:
    item_id = (await stack.synced_item(transactions=10))["id"]
    await workers(stack)
    await stack.db.execute(
        "INSERT INTO pluggy_sync.account_walks (item_id, account_id, kind, lane, asked_at)"
        " SELECT item_id, id, 'walk', 2, now() - interval '2 minutes' FROM pluggy.accounts LIMIT 1"
    )
    assert (await of_item(stack, "never_due", item_id))["how_many"] == 1
    await park(stack)
    await stack.order("sync/recent", item_id)
    await stack.quiet()
    await stack.shift(timedelta(minutes=2))
    await workers(stack)
    assert "never_due" not in await findings(stack)


def check_command(command: str | None) -> None:
    """The command line takes it as it is: names, options and their values."""
    if command is None:
        return
    program, *arguments = shlex.split(command)
    assert program == "pluggy-sync"
    at: click.Command = main
    context = click.Context(main)
    while isinstance(at, click.Group):
        found = at.get_command(context, arguments[0])
        assert found is not None, command
        at, arguments = found, arguments[1:]
    at.make_context(at.name, arguments)


@pytest.mark.parametrize("kind", ["reads_failing", "bank_error", "reconnect", "deliveries_refused"])
async def test_what_is_right_again_has_no_row(stack: Stack, kind: str) -> None:
    item = await stack.synced_item(transactions=10, connectorId=OPEN_FINANCE)
    await workers(stack)
    await KINDS[kind][0](stack, item["id"])
    assert set(await findings(stack)) == {kind}
    await stack.clear_faults()
    await stack.shift(timedelta(hours=1))
    await workers(stack)
    await stack.update(item["id"], created=1)
    await deliveries(stack, "accepted", 1, minutes_ago=-1)
    assert await findings(stack) == {}
    assert (await overview(stack))["light"] == "green"


async def test_all_that_is_wrong_at_once_is_listed_heaviest_first(stack: Stack) -> None:
    """One finding hides no other, and users' findings come last."""
    item = await stack.synced_item(transactions=10, connectorId=OPEN_FINANCE)
    for make_wrong in (expiring, flagged, refused, halted):
        await make_wrong(stack, item["id"])
    assert list(await findings(stack)) == [
        "halted",
        "no_worker",
        "deliveries_refused",
        "flagged_deletions",
        "consent_expiring",
    ]
    shown = await overview(stack)
    assert (shown["light"], shown["sentence"]) == ("red", "Halted: Update pluggy-sync.")
    assert (shown["findings"], shown["findings_info"]) == (4, 1)


@pytest.mark.parametrize(
    ("refusals", "taken_minutes_ago", "said"),
    [(19, None, False), (20, None, True), (60, 5, True), (60, -1, False)],
)
async def test_refusals_in_a_row_are_listed(
    stack: Stack, refusals: int, taken_minutes_ago: int | None, said: bool
) -> None:
    """Not those of a passer-by: ones that no delivery that was taken stands between."""
    await workers(stack)
    await deliveries(stack, "unauthorized", refusals)
    if taken_minutes_ago is not None:
        await deliveries(stack, "accepted", 1, minutes_ago=taken_minutes_ago)
    found = await findings(stack)
    assert set(found) == ({"deliveries_refused"} if said else set())
    assert all(row["how_many"] == refusals for row in found.values())


async def test_what_pluggy_does_not_know_is_settled_by_its_command(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    await workers(stack)
    await unknown_item(stack, "")
    row = (await findings(stack))["item_not_found"]
    [work] = await stack.db.fetch("SELECT * FROM pluggy_ops.worklist")
    [letter] = await stack.db.fetch("SELECT * FROM pluggy_ops.dead_letters")
    for said in (row["what"], work["what"], letter["advice"]):
        assert "Pluggy does not know" in said
        assert "requeue" not in said.lower()
    command = shlex.split(work["command"])[1:]
    done = await CommandLine({"DATABASE_URL": database_url, "REDIS_URL": redis_url})(*command)
    assert done.exit_code == 0, done.output
    await stack.quiet()
    assert await findings(stack) == {}


async def test_a_deletion_reported_by_command_tombstones_no_living_item(
    stack: Stack, database_url: str, redis_url: str
) -> None:
    item = await stack.synced_item(transactions=10)
    cli = CommandLine({"DATABASE_URL": database_url, "REDIS_URL": redis_url})
    said = await cli.json("items", "deleted", item["id"])
    assert said["accepted"] == 1
    await stack.quiet()
    assert len(await stack.live(item["id"])) == 10


async def test_a_pluggy_that_is_down_says_what_goes_on(stack: Stack) -> None:
    await workers(stack)
    await down(stack, "")
    row = (await findings(stack))["pluggy_down"]
    assert "nothing to do" not in row["what"]
    assert "probed every few seconds" in row["what"]


async def test_redis_without_append_only_file_is_listed_and_colours_nothing(stack: Stack) -> None:
    """It loses events only while Postgres is away too, and these are answered 503."""
    await workers(stack)
    await redis_settings(stack, ["append_only_off"])
    row = (await findings(stack))["redis_unsafe"]
    assert (row["severity"], "append_only_off" in row["what"]) == ("info", True)
    assert (await overview(stack))["light"] == "green"
    await redis_settings(stack, [])
    assert await findings(stack) == {}


@pytest.mark.parametrize(
    ("days", "ends"), [(13, True), (15, False), (-1, False)], ids=["13 days", "15 days", "ended"]
)
@pytest.mark.parametrize("said_by", ["item", "consent"])
async def test_a_consent_that_ends_soon_is_listed_with_its_date(
    stack: Stack, said_by: str, days: int, ends: bool
) -> None:
    item = await stack.synced_item(transactions=10, connectorId=OPEN_FINANCE)
    await workers(stack)
    assert await findings(stack) == {}
    at = now() + timedelta(days=days)
    statement = {
        "item": "UPDATE pluggy.items SET consent_expires_at = $1",
        "consent": "UPDATE pluggy.consents SET expires_at = $1",
    }[said_by]
    await stack.db.execute(statement, at)
    if not ends:
        assert "consent_expiring" not in await findings(stack)
        return
    work = await of_item(stack, "consent_expiring", item["id"])
    assert work["due_at"] == at
    for said in (work["what"], (await findings(stack))["consent_expiring"]["what"]):
        assert f"{at:%Y-%m-%d}" in said
