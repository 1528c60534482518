"""When the rows of an event became visible: never said to be before their commit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.support.stack import Stack
from tests.syncing.test_transactions import changed
from worker.store.demo import demo_progress

# Deferred, so it notes the time within COMMIT, after the last statement of the page.
NOTE_COMMITS = """
CREATE TABLE public.commits (account_id uuid PRIMARY KEY, at timestamptz NOT NULL);
CREATE FUNCTION public.note_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.commits VALUES (new.account_id, clock_timestamp())
    ON CONFLICT (account_id) DO UPDATE SET at = clock_timestamp();
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_commit AFTER INSERT OR UPDATE ON pluggy.transactions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.note_commit();
"""


async def commits(stack: Stack) -> dict[str, Any]:
    """The last commit of rows by account."""
    found = await stack.db.fetch("SELECT account_id, at FROM public.commits")
    return {str(row["account_id"]): row["at"] for row in found}


async def test_rows_are_said_to_be_visible_between_their_commit_and_the_settlement(
    stack: Stack,
) -> None:
    item = await stack.synced_item(transactions=60)
    await stack.db.execute(NOTE_COMMITS)
    answer = await stack.collect(item["id"], created=6, updated=4)
    await stack.process_all(answer)
    committed = await commits(stack)
    told = (await stack.events(item["id"]))[-len(answer["events"]) :]
    about_accounts = [event for event in told if event["account_id"] is not None]
    assert {str(event["account_id"]) for event in about_accounts} == committed.keys()
    for event in about_accounts:
        assert committed[str(event["account_id"])] < event["visible_at"] < event["settled_at"]
    [whole] = [event for event in told if event["event"] == "item/updated"]
    assert whole["visible_at"] >= max(event["visible_at"] for event in about_accounts)
    assert whole["visible_at"] < whole["settled_at"]


async def test_rows_of_a_walk_count_as_visible_when_its_event_is_settled(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    [event] = await stack.events(item["id"])
    # One statement notes both, one microsecond after the other.
    assert timedelta(0) <= event["visible_at"] - event["settled_at"] < timedelta(seconds=1)


async def test_events_that_changed_no_row_are_counted_apart(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30)
    before = await demo_progress(stack.db, after_event=0)
    answer = await stack.collect(item["id"], created=2)
    account_id, *_ = changed(answer, "created")
    await stack.process("transactions/created", item["id"], accountId=account_id)
    # Nothing is new, without a transaction of a page and with one.
    await stack.process("transactions/created", item["id"], accountId=account_id)
    same = changed(answer, "created")[account_id][:1]
    await stack.process(
        "transactions/updated", item["id"], accountId=account_id, transactionIds=same
    )
    *_, first, second, third = await stack.events(item["id"])
    assert first["visible_at"] is not None
    assert (second["visible_at"], third["visible_at"]) == (None, None)
    progress = await demo_progress(stack.db, after_event=before.last_event)
    assert progress.without_rows == 2
    assert progress.lag_ms is not None
    [lag] = await stack.db.fetch(
        "SELECT * FROM pluggy_ops.lag WHERE event = 'transactions/created'"
    )
    assert (lag["events"], lag["with_rows"]) == (2, 1)
    ms = (first["visible_at"] - first["received_at"]).total_seconds() * 1000
    assert abs(float(lag["p50_ms"]) - ms) < 1
    assert lag["settled_p50_ms"] > 0


async def test_a_receiver_whose_clock_is_ahead_makes_no_negative_times(stack: Stack) -> None:
    item = await stack.synced_item(transactions=30, accounts=1)
    before = await demo_progress(stack.db, after_event=0)
    await stack.process_all(await stack.collect(item["id"], created=1))
    await stack.db.execute(
        "UPDATE pluggy_sync.webhook_events SET received_at = received_at + interval '1 hour'"
    )
    lags = await stack.db.fetch("SELECT p50_ms, settled_p50_ms FROM pluggy_ops.lag")
    assert lags
    assert all(ms is None or ms > 0 for lag in lags for ms in lag)
    progress = await demo_progress(stack.db, after_event=before.last_event)
    assert progress.lag_ms is not None
    assert min(progress.lag_ms) > 0
