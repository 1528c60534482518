"""The plan of each event, row by row of the table of events."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.support.planning import (
    ACCOUNTS,
    CARD,
    CHECKING,
    COLLECTED,
    DAY,
    HOUR,
    INVESTMENT,
    MINUTE,
    NOW,
    READ_AFTER,
    READ_BEFORE,
    SAVINGS,
    decided,
    event,
    fresh_steps,
    item,
    item_state,
    made_step,
    only,
    place,
    step,
    unknown,
    walk,
)
from worker.inbox.events import ITEM_EVENTS, OWN_EVENTS, TRANSACTION_EVENTS
from worker.infra.lanes import Lane
from worker.planner.due_reads import QUIET_EVENTS
from worker.planner.freshness import AUDIT_BEYOND, OVERLAP
from worker.planner.outcomes import SUPERSEDED_AFTER, Answered, Outcome, doubling_pause
from worker.planner.state import WHOLE_ITEM, InvestmentState, Step
from worker.planner.steps import (
    AskIds,
    AskWalk,
    Gone,
    NotRead,
    PlannedStep,
    ReadAccounts,
    ReadDelta,
    ReadInvestmentTransactions,
    ReadProduct,
    ReadRecent,
    TombstoneItem,
    step_key,
)

ALL_BY_ITEM = {
    ReadProduct("investments", WHOLE_ITEM, COLLECTED),
    ReadProduct("loans", WHOLE_ITEM, COLLECTED),
    ReadProduct("identities", WHOLE_ITEM, COLLECTED),
    ReadProduct("consents", WHOLE_ITEM, COLLECTED),
}
BILLS = ReadProduct("bills", CARD, COLLECTED)
WALKS = {AskWalk(a, Lane.BACKFILL, False, COLLECTED) for a in ACCOUNTS}
DELTAS = {ReadDelta(a, NOW - DAY - HOUR, False, COLLECTED) for a in ACCOUNTS}


@pytest.mark.parametrize(
    "name", sorted((ITEM_EVENTS | OWN_EVENTS | TRANSACTION_EVENTS) - {"item/deleted"})
)
def test_any_event_of_an_unknown_item_first_reads_its_accounts(name: str) -> None:
    found = decided(unknown(event(name)))
    assert ReadAccounts(COLLECTED) in found.steps
    assert only(found.outcomes).state == "pending"


@pytest.mark.parametrize("name", ["item/created", "item/updated", "sync/register"])
def test_of_an_unknown_item_every_account_is_walked_and_every_product_read(name: str) -> None:
    state = item_state(event(name), steps=[step("accounts", source_updated_at=READ_AFTER)])
    found = decided(state)
    unread = ReadInvestmentTransactions(INVESTMENT, "same", COLLECTED)
    assert set(found.steps) in (
        ALL_BY_ITEM | WALKS | {BILLS},
        ALL_BY_ITEM | WALKS | {BILLS, unread},
    )


def test_a_walk_under_way_is_not_asked_for_again() -> None:
    state = item_state(
        event("item/created"),
        steps=[s for s in fresh_steps() if s.product != "transactions"],
        walks=[walk(CHECKING), walk(CARD)],
    )
    found = decided(state)
    assert found.steps == []
    assert only(found.outcomes) == Outcome("walking")


@pytest.mark.parametrize("name", ["item/created", "item/updated", "item/error", "sync/register"])
def test_of_a_known_item_only_what_was_collected_since_is_read(name: str) -> None:
    stale = [
        step("accounts"),
        step("loans"),
        step("transactions", CARD),
        step("bills", CARD),
    ]
    found = decided(item_state(event(name), changed=stale))
    assert set(found.steps) >= {
        ReadAccounts(COLLECTED),
        ReadProduct("loans", WHOLE_ITEM, COLLECTED),
    }
    after = decided(item_state(event(name), changed=stale[1:]))
    assert set(after.steps) == {
        ReadProduct("loans", WHOLE_ITEM, COLLECTED),
        ReadDelta(CARD, NOW - DAY - HOUR, False, COLLECTED),
        BILLS,
    }


@pytest.mark.parametrize("name", ["item/created", "item/updated", "item/error", "sync/register"])
def test_a_known_item_that_was_read_since_its_collection_costs_nothing(name: str) -> None:
    found = decided(item_state(event(name)))
    assert found.steps == []
    assert only(found.outcomes).state == "applied"


@pytest.mark.parametrize(
    ("detail", "product"),
    [
        ("accounts", "accounts"),
        ("creditCards", "accounts, bills"),
        ("transactions", "transactions"),
        ("creditCards", "bills"),
        ("investments", "investments"),
        ("investmentsTransactions", "investment_transactions"),
        ("loans", "loans"),
        ("identity", "identities"),
    ],
)
def test_a_product_is_judged_by_its_own_collection(detail: str, product: str) -> None:
    details = {
        name: {"lastUpdatedAt": READ_BEFORE.isoformat()}
        for name in (
            "accounts",
            "creditCards",
            "transactions",
            "investments",
            "investmentsTransactions",
            "loans",
            "identity",
        )
    }
    details[detail] = {"lastUpdatedAt": COLLECTED.isoformat()}
    steps = [msgspec.structs.replace(s, source_updated_at=READ_BEFORE) for s in fresh_steps()]
    if product == "bills":  # cards are accounts too
        steps.append(step("accounts", source_updated_at=COLLECTED))
    # The item's own lastUpdatedAt is later than all: it counts for no product that has its own.
    of = item(collected=NOW, statusDetail=details, updatedAt=READ_BEFORE.isoformat())
    found = decided(item_state(event("item/updated"), steps=steps), of=of)
    assert ", ".join(sorted({_product(s) for s in found.steps})) == product


def _product(found: PlannedStep) -> str:
    return "accounts" if isinstance(found, ReadAccounts) else step_key(found)[1]


@pytest.mark.parametrize("name", ["item/updated", "item/created", "sync/register"])
def test_without_times_of_collection_every_event_that_says_so_reads(name: str) -> None:
    dateless = item(collected=None)
    found = decided(item_state(event(name)), of=dateless)
    assert set(found.steps) == {
        ReadAccounts(None),
        *(replace(delta, source_updated_at=None) for delta in DELTAS),
        *(replace(read, source_updated_at=None) for read in ALL_BY_ITEM | {BILLS}),
    }
    answered = [made_step(s.product, s.scope_id, complete_read_at=NOW) for s in fresh_steps()]
    known = {"watermark": NOW, "fingerprint": "same", "recent_at": NOW, "recent_seq": place(NOW)}
    read = [msgspec.structs.replace(s, **known) for s in answered]
    again = decided(item_state(event(name), steps=read), of=dateless)
    assert (again.steps, only(again.outcomes).state) == ([], "applied")


def test_movements_are_read_after_each_collection_those_of_changed_investments_first() -> None:
    same, other = InvestmentState(INVESTMENT, "same"), InvestmentState(SAVINGS, "new")
    known = {"source_updated_at": READ_BEFORE}
    steps = [
        step("investment_transactions", i, fingerprint="same", **known)
        for i in (INVESTMENT, SAVINGS)
    ]
    state = item_state(event("item/updated"), changed=steps, investments=[same, other])
    found = decided(state)
    assert [
        (s.investment_id, s.sweeps)
        for s in found.steps
        if isinstance(s, ReadInvestmentTransactions)
    ] == [
        (SAVINGS, False),
        (INVESTMENT, True),
    ]
    assert only(found.outcomes).lane == Lane.LIVE
    read = step("investment_transactions", SAVINGS, fingerprint="new", source_updated_at=COLLECTED)
    rest = decided(
        item_state(event("item/updated"), changed=[*steps, read], investments=[same, other])
    )
    assert rest.steps == [ReadInvestmentTransactions(INVESTMENT, "same", COLLECTED)]
    assert (only(rest.outcomes).state, only(rest.outcomes).lane) == ("pending", Lane.BACKFILL)


def test_without_times_of_collection_events_that_do_not_say_so_read_nothing() -> None:
    dateless = item(collected=None)
    for name in ("item/error", "item/login_succeeded"):
        found = decided(item_state(event(name)), of=dateless)
        assert (found.steps, only(found.outcomes).state) == ([], "applied")


def test_without_times_of_collection_the_missed_webhook_check_reads_once_a_day() -> None:
    dateless = item(collected=None)
    day_old = [msgspec.structs.replace(s, complete_read_at=NOW - DAY) for s in fresh_steps()]
    assert (
        ReadAccounts(None)
        in decided(item_state(event("sync/missed-webhook-check"), steps=day_old), of=dateless).steps
    )
    lately = [msgspec.structs.replace(s, complete_read_at=NOW - HOUR) for s in fresh_steps()]
    found = decided(item_state(event("sync/missed-webhook-check"), steps=lately), of=dateless)
    assert (found.steps, only(found.outcomes).state) == ([], "applied")


@pytest.mark.parametrize("name", sorted(QUIET_EVENTS))
@pytest.mark.parametrize("status", ["UPDATED", "UPDATING", "WAITING_USER_INPUT"])
def test_login_and_waiting_of_a_known_item_are_applied_by_the_item_alone(
    name: str, status: str
) -> None:
    found = decided(item_state(event(name), changed=[step("accounts")]), of=item(status))
    assert (found.steps, only(found.outcomes).state) == ([], "applied")


@pytest.mark.parametrize("status", ["UPDATING", "MERGING", "WAITING_USER_INPUT"])
@pytest.mark.parametrize("name", ["item/created", "item/updated", "item/error"])
def test_a_collection_under_way_holds_item_events_back(name: str, status: str) -> None:
    found = decided(item_state(event(name), changed=[step("accounts")]), of=item(status))
    assert found.steps == []
    outcome = only(found.outcomes)
    assert (outcome.state, outcome.reason) == ("pending", "collection_in_progress")
    assert outcome.due_at == NOW + MINUTE


@pytest.mark.parametrize("name", sorted(QUIET_EVENTS))
def test_a_collection_under_way_holds_every_event_of_an_unknown_item_back(name: str) -> None:
    outcome = only(decided(unknown(event(name)), of=item("UPDATING")).outcomes)
    assert (outcome.state, outcome.reason) == ("pending", "collection_in_progress")


@pytest.mark.parametrize(
    ("age", "pause"),
    [(timedelta(0), 30), (10 * MINUTE, 600), (5 * HOUR, 3600), (23 * HOUR, 3600)],
)
def test_the_pauses_of_deferred_events_double_from_half_a_minute_to_an_hour(
    age: timedelta, pause: int
) -> None:
    outcome = only(
        decided(item_state(event("item/updated", age=age)), of=item("UPDATING")).outcomes
    )
    assert outcome.due_at == NOW + timedelta(seconds=pause)
    assert doubling_pause(age) == timedelta(seconds=pause)


def test_after_a_day_what_was_deferred_is_superseded() -> None:
    state = item_state(
        event("item/updated", 1, age=SUPERSEDED_AFTER),
        event("item/updated", 2, age=SUPERSEDED_AFTER - MINUTE),
    )
    outcomes = decided(state, of=item("UPDATING")).outcomes
    assert (outcomes[1].state, outcomes[1].reason) == ("ignored", "superseded")
    assert outcomes[2].state == "pending"


def test_a_verify_that_was_deferred_for_a_day_reads_anyway() -> None:
    waits = decided(
        item_state(event("sync/verify", age=SUPERSEDED_AFTER - MINUTE)), of=item("UPDATING")
    )
    assert (waits.steps, only(waits.outcomes).reason) == ([], "collection_in_progress")
    reads = decided(item_state(event("sync/verify", age=SUPERSEDED_AFTER)), of=item("UPDATING"))
    assert any(isinstance(found, AskWalk | ReadAccounts) for found in reads.steps)
    assert only(reads.outcomes).state == "pending"


def test_created_rows_are_read_from_an_hour_before_the_watermark() -> None:
    state = item_state(event("transactions/created", created_at_from=NOW - MINUTE, expected_rows=3))
    found = decided(state)
    assert found.steps == [ReadDelta(CHECKING, NOW - DAY - OVERLAP, True, COLLECTED)]


def test_created_rows_are_read_from_where_the_event_says_if_that_is_earlier() -> None:
    since = NOW - 3 * DAY
    found = decided(item_state(event("transactions/created", created_at_from=since)))
    assert found.steps == [ReadDelta(CHECKING, since, False, COLLECTED)]


@pytest.mark.parametrize(("beyond", "walks"), [(timedelta(0), False), (timedelta(seconds=1), True)])
def test_a_time_more_than_a_week_before_the_watermark_asks_for_a_walk_in_the_audit_lane(
    beyond: timedelta, walks: bool
) -> None:
    since = NOW - DAY - AUDIT_BEYOND - beyond
    [found] = decided(item_state(event("transactions/created", created_at_from=since))).steps
    assert found == (
        AskWalk(CHECKING, Lane.AUDIT, False, COLLECTED)
        if walks
        else ReadDelta(CHECKING, since, False, COLLECTED)
    )


def test_an_account_without_watermark_is_answered_by_its_walk() -> None:
    steps = [s for s in fresh_steps() if s.scope_id != CHECKING]
    asked = decided(item_state(event("transactions/created", expected_rows=1), steps=steps))
    assert asked.steps == [AskWalk(CHECKING, Lane.BACKFILL, True, COLLECTED)]
    waits = decided(item_state(event("transactions/created"), steps=steps, walks=[walk(CHECKING)]))
    assert (waits.steps, only(waits.outcomes).state) == ([], "walking")


@pytest.mark.parametrize(
    ("started", "follows"), [(2 * MINUTE, True), (MINUTE, True), (timedelta(0), False)]
)
def test_a_walk_that_began_before_the_event_is_followed_by_one_delta(
    started: timedelta, follows: bool
) -> None:
    """The event is a minute old."""
    walked = step(
        "transactions",
        CHECKING,
        complete_read_at=NOW - started,
        walked_at=NOW - started,
        watermark=NOW - started,
        source_updated_at=READ_AFTER,
    )
    found = decided(item_state(event("transactions/created"), changed=[walked]))
    assert [type(s) for s in found.steps] == [ReadDelta] * follows
    assert (only(found.outcomes).state == "applied") is not follows


@pytest.mark.parametrize(
    ("changes", "answered"),
    [
        ({"read_since": NOW - 2 * DAY}, False),
        ({"read_since": NOW - 3 * DAY}, True),
        ({"read_since": None}, True),
        ({"read_since": NOW - 2 * DAY, "walked_at": NOW}, True),
    ],
)
def test_only_a_read_from_where_the_event_says_that_rows_begin_answers_it(
    changes: dict[str, Any], answered: bool
) -> None:
    """Rows that became visible late are before the start of a delta planned for another event."""
    since = NOW - 3 * DAY
    known: dict[str, Any] = {
        "complete_read_at": NOW,
        "watermark": NOW,
        "source_updated_at": READ_AFTER,
    }
    read = step("transactions", CHECKING, **known | changes)
    found = decided(
        item_state(event("transactions/created", created_at_from=since), changed=[read])
    )
    delta = ReadDelta(CHECKING, since, False, COLLECTED)
    assert found.steps == ([] if answered else [delta])
    assert (only(found.outcomes).state == "applied") is answered


def test_a_delta_starts_no_later_than_any_open_event_says_that_rows_begin() -> None:
    """The stored start of the next read must not make an answered event unanswered."""
    since = NOW - 3 * DAY
    known = {"complete_read_at": NOW, "watermark": NOW, "source_updated_at": READ_BEFORE}
    read = step("transactions", CHECKING, **known, read_since=since)
    announced = event("transactions/created", created_at_from=since)
    found = decided(item_state(announced, event("item/updated", 2), changed=[read]))
    assert ReadDelta(CHECKING, since, False, COLLECTED) in found.steps
    assert found.outcomes[announced.id].state == "applied"


def test_a_delta_waits_for_no_walk_of_all_pages_but_for_its_own() -> None:
    announced = event("transactions/created")
    assert [type(s) for s in decided(item_state(announced, walks=[walk(CHECKING)])).steps] == [
        ReadDelta
    ]
    own = decided(item_state(announced, walks=[walk(CHECKING, "delta")]))
    assert (own.steps, only(own.outcomes).state) == ([], "walking")


@pytest.mark.parametrize("name", ["transactions/updated", "transactions/deleted"])
def test_named_rows_are_asked_for_by_id(name: str) -> None:
    found = decided(item_state(event(name)))
    assert found.steps == [AskIds(CHECKING, (1,), 2)]
    asked = decided(item_state(event(name)), answered=Answered(frozenset({1})))
    assert (asked.steps, only(asked.outcomes).state) == ([], "applied")


def test_a_deleted_row_that_still_comes_back_is_asked_for_once_more_after_five_minutes() -> None:
    still_there = Answered(frozenset({1}), frozenset({1}))
    first = only(decided(item_state(event("transactions/deleted")), answered=still_there).outcomes)
    assert (first.state, first.due_at) == ("pending", NOW + 5 * MINUTE)
    assert first.ask_again_at == first.due_at
    waits = event("transactions/deleted", ask_again_at=NOW + MINUTE)
    found = decided(item_state(waits))
    assert (found.steps, only(found.outcomes).due_at) == ([], NOW + MINUTE)
    due = event("transactions/deleted", ask_again_at=NOW - MINUTE)
    assert decided(item_state(due)).steps == [AskIds(CHECKING, (1,), 2)]
    assert only(decided(item_state(due), answered=still_there).outcomes).state == "applied"


@pytest.mark.parametrize("name", sorted(TRANSACTION_EVENTS))
def test_transactions_are_read_whatever_the_items_status_and_never_superseded(name: str) -> None:
    announced = event(name, age=3 * DAY)
    state = item_state(
        announced, changed=[step("transactions", CHECKING, complete_read_at=NOW - 9 * DAY)]
    )
    under_way, done = decided(state, of=item("UPDATING")), decided(state)
    assert under_way == done
    assert len(done.steps) == 1


@pytest.mark.parametrize("name", sorted(TRANSACTION_EVENTS))
def test_an_account_that_is_not_of_the_item_is_dead_after_the_last_confirmation(name: str) -> None:
    announced = event(name, account_id=SAVINGS)
    rechecks = decided(item_state(announced))
    assert rechecks.steps == [ReadAccounts(COLLECTED)]
    rechecked = step("accounts", complete_read_at=NOW, source_updated_at=READ_AFTER)
    waits = only(decided(item_state(announced, changed=[rechecked])).outcomes)
    assert (waits.state, waits.confirming, waits.confirming_since) == ("pending", "accounts", NOW)
    assert waits.due_at == NOW + timedelta(seconds=5)
    since = NOW - 5 * MINUTE
    announced = event(
        name, account_id=SAVINGS, confirming="accounts", confirming_since=since, age=6 * MINUTE
    )
    found = decided(item_state(announced, changed=[rechecked]))
    assert found.steps == []
    assert (only(found.outcomes).state, only(found.outcomes).reason) == (
        "dead",
        "account_not_of_item",
    )


def test_events_of_a_tombstoned_account_are_ignored_after_one_read() -> None:
    announced = event("transactions/created", account_id=SAVINGS)
    assert decided(item_state(announced, tombstoned=[SAVINGS])).steps == [ReadAccounts(COLLECTED)]
    rechecked = step("accounts", complete_read_at=NOW, source_updated_at=READ_AFTER)
    outcome = only(
        decided(item_state(announced, tombstoned=[SAVINGS], changed=[rechecked])).outcomes
    )
    assert (outcome.state, outcome.reason) == ("ignored", "account_deleted")


@pytest.mark.parametrize("known", [True, False])
def test_item_deleted_tombstones_only_what_a_404_proves(known: bool) -> None:
    announced = event("item/deleted")
    answers = decided(item_state(announced, known=known))
    assert answers.steps == []
    assert only(answers.outcomes).due_at == NOW + 5 * MINUTE
    again = event("item/deleted", ask_again_at=NOW)
    outcome = only(decided(item_state(again)).outcomes)
    assert (outcome.state, outcome.reason) == ("ignored", "item_still_exists")
    gone = decided(item_state(announced, known=known), of=Gone())
    assert gone.steps == ([TombstoneItem()] if known else [])
    tombstoned = only(decided(item_state(announced, item_deleted=True), of=Gone()).outcomes)
    assert tombstoned.state == "applied"


def test_a_404_of_an_unknown_item_that_was_deleted_is_ignored() -> None:
    outcome = only(decided(unknown(event("item/deleted")), of=Gone()).outcomes)
    assert (outcome.state, outcome.reason) == ("ignored", "item_unknown")


@pytest.mark.parametrize("name", ["item/updated", "transactions/created"])
def test_later_events_of_a_tombstoned_item_are_ignored(name: str) -> None:
    outcome = only(decided(item_state(event(name), item_deleted=True), of=Gone()).outcomes)
    assert (outcome.state, outcome.reason) == ("ignored", "item_deleted")


def test_a_verify_reads_every_product_and_walks_every_account_in_the_audit_lane() -> None:
    found = decided(item_state(event("sync/verify", lane=Lane.AUDIT)))
    assert found.steps[:1] == [ReadAccounts(COLLECTED)]
    rechecked = step("accounts", complete_read_at=NOW, source_updated_at=READ_AFTER)
    found = decided(item_state(event("sync/verify", lane=Lane.AUDIT), changed=[rechecked]))
    walks = {AskWalk(a, Lane.AUDIT, False, COLLECTED) for a in ACCOUNTS}
    assert set(found.steps) == ALL_BY_ITEM | walks | {BILLS}


def test_a_product_that_is_not_wanted_is_never_read() -> None:
    announced = event("item/created")
    rechecked = step("accounts", source_updated_at=READ_AFTER)
    found = decided(
        item_state(announced, steps=[rechecked]), products=("items", "accounts", "loans")
    )
    assert found.steps == [ReadProduct("loans", WHOLE_ITEM, COLLECTED)]
    rows = decided(item_state(event("transactions/created")), products=("items", "accounts"))
    assert only(rows.outcomes).reason == "product_not_enabled"


def test_while_the_account_list_proves_nothing_no_item_event_reads_by_account() -> None:
    deferred = step("accounts", deferred_since=NOW - HOUR, next_try_at=NOW + HOUR)
    stale = [step("transactions", a) for a in ACCOUNTS]
    found = decided(item_state(event("item/updated"), changed=[deferred, *stale]))
    assert found.steps == []
    assert only(found.outcomes).due_at == NOW + HOUR


# Back-off and death


def test_no_event_hurries_a_step_in_back_off() -> None:
    waits = step("transactions", CHECKING, next_try_at=NOW + HOUR, attempts=3)
    for name in sorted(TRANSACTION_EVENTS):
        found = decided(item_state(event(name), changed=[waits]))
        assert found.steps == []
        assert only(found.outcomes) == Outcome("pending", due_at=NOW + HOUR)


def test_a_step_in_back_off_does_not_stop_the_others() -> None:
    waits = step("loans", next_try_at=NOW + HOUR)
    stale = step("transactions", CHECKING)
    found = decided(item_state(event("item/updated"), changed=[waits, stale]))
    assert found.steps == [ReadDelta(CHECKING, NOW - DAY - HOUR, False, COLLECTED)]
    rest = decided(item_state(event("item/updated"), changed=[waits]))
    assert only(rest.outcomes).due_at == NOW + HOUR


@pytest.mark.parametrize(("age", "alive"), [(MINUTE, True), (3 * MINUTE, False)])
def test_a_dead_step_is_revived_by_events_newer_than_its_death_only(
    age: timedelta, alive: bool
) -> None:
    dead = step(
        "transactions", CHECKING, dead_at=NOW - 2 * MINUTE, failure_code="400:X", error_id="e1"
    )
    found = decided(item_state(event("transactions/created", age=age), changed=[dead]))
    assert [type(s) for s in found.steps] == [ReadDelta] * alive
    expected = ("pending", None, None) if alive else ("dead", "400:X", "e1")
    outcome = only(found.outcomes)
    assert (outcome.state, outcome.reason, outcome.error_id) == expected


def test_a_dead_walk_is_asked_for_again_by_a_newer_event() -> None:
    dead = made_step("transactions", CHECKING, dead_at=NOW - 2 * MINUTE)
    steps = [*(s for s in fresh_steps() if s.scope_id != CHECKING), dead]
    state = item_state(event("transactions/created"), steps=steps, walks=[walk(CHECKING)])
    assert [type(s) for s in decided(state).steps] == [AskWalk]


@pytest.mark.parametrize(
    "items_step",
    [
        step("items", next_try_at=NOW + HOUR),
        step("items", dead_at=NOW, failure_code="403:X"),
    ],
)
def test_an_item_that_was_not_read_leaves_nothing_applied(items_step: Step) -> None:
    found = decided(item_state(event("item/updated"), changed=[items_step]), of=NotRead())
    assert found.steps == []
    assert only(found.outcomes).state == ("dead" if items_step.dead_at else "pending")


def test_an_item_that_was_not_read_is_not_applied_because_its_pause_is_over() -> None:
    """The pause was shorter than the time until the stored state was read again."""
    ended = step("items", next_try_at=NOW - timedelta(milliseconds=1), attempts=1)
    found = decided(item_state(event("item/updated"), changed=[ended]), of=NotRead())
    assert only(found.outcomes).state == "pending"


# Joining


def test_one_delta_answers_several_events_from_the_earliest_of_their_times() -> None:
    state = item_state(
        event("transactions/created", 1, created_at_from=NOW - 4 * DAY),
        event("transactions/created", 2, created_at_from=NOW - 5 * DAY, expected_rows=2),
        event("transactions/created", 3),
    )
    assert decided(state).steps == [ReadDelta(CHECKING, NOW - 5 * DAY, True, COLLECTED)]


def test_one_question_answers_several_events_and_short_ones_are_asked_first() -> None:
    state = item_state(
        event("transactions/updated", 1, ids_open=3),
        event("transactions/deleted", 2, ids_open=2),
        event("transactions/updated", 3, ids_open=1, account_id=CARD),
    )
    assert decided(state).steps == [
        AskIds(CARD, (3,), 1),
        AskIds(CHECKING, (1, 2), 5),
    ]


def test_a_list_that_is_asked_for_to_its_end_is_asked_for_no_more() -> None:
    found = decided(item_state(event("transactions/updated", ids_open=0)))
    assert (found.steps, only(found.outcomes).state) == ([], "applied")
    came_back = event("transactions/deleted", ids_open=0, ids_came_back=True)
    found = decided(item_state(came_back))
    assert (found.steps, only(found.outcomes).ask_again_at) == ([], NOW + 5 * MINUTE)


def test_long_questions_wait_for_the_other_steps() -> None:
    state = item_state(
        event("transactions/updated", 1, ids_open=30_000),
        event("transactions/created", 2, account_id=CARD),
    )
    assert [type(s) for s in decided(state).steps] == [ReadDelta, AskIds]


def test_one_walk_answers_several_events_in_the_best_of_their_lanes() -> None:
    unread = [s for s in fresh_steps() if s.scope_id != CHECKING]
    state = item_state(
        event("sync/verify", 1, lane=Lane.AUDIT),
        event("transactions/created", 2, expected_rows=2),
        steps=[*unread, step("accounts", complete_read_at=NOW, source_updated_at=READ_AFTER)],
    )
    walks = [s for s in decided(state).steps if isinstance(s, AskWalk)]
    assert AskWalk(CHECKING, Lane.BACKFILL, True, COLLECTED) in walks
    assert len({s.account_id for s in walks}) == len(walks)


@pytest.mark.parametrize(("read_at", "wanted"), [(NOW, False), (NOW - HOUR, True)])
def test_the_last_days_are_read_once_for_the_event_that_asks_for_them(
    read_at: datetime, wanted: bool
) -> None:
    """Rows read later in the same sync, for another event, do not make them due again."""
    read = step("transactions", CHECKING, recent_at=read_at, complete_read_at=NOW + MINUTE)
    others = [s for s in fresh_steps() if s.scope_id != CHECKING]
    steps = [msgspec.structs.replace(s, recent_at=NOW) for s in others]
    found = decided(item_state(event("sync/recent"), steps=steps, changed=[read]))
    assert (ReadRecent(CHECKING, (NOW - 14 * DAY).date()) in found.steps) is wanted
    assert (only(found.outcomes).state == "applied") is not wanted
