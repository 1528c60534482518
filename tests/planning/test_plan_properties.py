"""Properties of the plan for any events and any state."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.planning import (
    CARD,
    CHECKING,
    DAY,
    HOUR,
    INVESTMENT,
    MINUTE,
    NOW,
    SAVINGS,
    decided,
    event,
    item,
    item_state,
    made_step,
    place,
    walk,
)
from worker.inbox.events import ITEM_EVENTS, OWN_EVENTS, READ_ACCOUNTS, TRANSACTION_EVENTS
from worker.infra.lanes import Lane
from worker.planner.due_reads import QUIET_EVENTS
from worker.planner.item_status import Item
from worker.planner.outcomes import SUPERSEDED_AFTER, Answered, SyncPlan
from worker.planner.state import WHOLE_ITEM, InvestmentState, ItemState, PendingEvent, Step
from worker.planner.steps import (
    AskAgain,
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

TOMBSTONED = uuid.UUID(int=4, version=4)
PLACES = [
    *[(p, WHOLE_ITEM) for p in ("accounts", "investments", "loans", "identities", "consents")],
    *[("transactions", account) for account in (CHECKING, CARD)],
    ("bills", CARD),
    ("investment_transactions", INVESTMENT),
]
AGES = [timedelta(0), MINUTE, 10 * MINUTE, 2 * HOUR, DAY, 2 * DAY, 9 * DAY]
PRODUCT_OF = {"ReadAccounts": "accounts", "TombstoneItem": "items"}

K = TypeVar("K")
V = TypeVar("V")

many = settings(
    max_examples=examples(80, thorough=200), derandomize=True, database=None, deadline=None
)

past = st.sampled_from([NOW - age for age in AGES])
future = st.sampled_from([NOW + MINUTE, NOW + HOUR])
trouble = st.one_of(
    st.just({}),
    st.just({}),
    st.builds(dict, next_try_at=future),
    st.builds(dict, next_try_at=past),
    st.builds(dict, dead_at=past, failure_code=st.just("400:X")),
    st.builds(dict, deferred_since=past, next_try_at=future),
)


CONFIRMED = TRANSACTION_EVENTS | {"item/created", "item/updated"}
rechecks_since = st.sampled_from([timedelta(0), timedelta(seconds=20), MINUTE, 10 * MINUTE, DAY])
rechecked_at = st.just((None, None)) | st.tuples(
    st.sampled_from(["accounts", "items", f"transactions/{CHECKING}", f"transactions/{CARD}"]),
    rechecks_since.map(lambda age: NOW - age),
)


@st.composite
def stored_steps(draw: st.DrawFn) -> list[Step]:
    """Steps after reads and failures; absent ones were never tried."""
    found = []
    for product, scope_id in PLACES:
        fields: dict[str, Any] = {}
        if draw(st.booleans()):
            read_at = draw(past)
            fields = {"complete_read_at": read_at, "source_updated_at": draw(st.none() | past)}
            if product == "transactions":
                fields |= {"watermark": draw(past), "walked_at": draw(past)}
                fields |= {
                    "recent_at": draw(st.none() | past),
                    "read_since": draw(st.none() | past),
                }
            if product == "investment_transactions":
                fields |= {"fingerprint": draw(st.sampled_from(["same", "other"]))}
        fields |= draw(trouble)
        if fields:
            found.append(made_step(product, scope_id, **fields))
    return found


@st.composite
def pending_events(draw: st.DrawFn, event_id: int) -> PendingEvent:
    name = draw(st.sampled_from(sorted(ITEM_EVENTS | OWN_EVENTS | TRANSACTION_EVENTS)))
    fields: dict[str, Any] = {"lane": draw(st.sampled_from(Lane))}
    if name in TRANSACTION_EVENTS:
        fields["account_id"] = draw(st.sampled_from([CHECKING, CARD, SAVINGS, TOMBSTONED]))
    if name == "transactions/created":
        fields["created_at_from"] = draw(st.none() | past)
        fields["expected_rows"] = draw(st.sampled_from([None, 0, 2]))
    elif name in TRANSACTION_EVENTS:
        fields["ids_open"] = draw(st.integers(0, 6))
        fields["ids_came_back"] = draw(st.booleans())
    if name in ("item/deleted", "transactions/deleted"):
        fields["ask_again_at"] = draw(st.none() | past | future)
    if name in CONFIRMED:
        fields["confirming"], fields["confirming_since"] = draw(rechecked_at)
    return event(name, event_id, age=draw(st.sampled_from(AGES)), **fields)


@st.composite
def states(draw: st.DrawFn) -> ItemState:
    events = [draw(pending_events(n)) for n in range(1, draw(st.integers(1, 5)) + 1)]
    walking = draw(st.lists(st.sampled_from([CHECKING, CARD]), unique=True))
    fingerprints = draw(st.lists(st.just("same"), max_size=1))
    return item_state(
        *events,
        steps=draw(stored_steps()),
        walks=[walk(a, draw(st.sampled_from(["walk", "delta", "recent"]))) for a in walking],
        tombstoned=[TOMBSTONED],
        investments=[InvestmentState(INVESTMENT, f) for f in fingerprints],
        known=draw(st.booleans()),
        newest_rows=draw(st.dictionaries(st.sampled_from([CHECKING, CARD]), past)),
        item_deleted=draw(st.booleans()),
    )


statuses = st.sampled_from(["UPDATED", "UPDATED", "UPDATING", "LOGIN_ERROR", "OUTDATED"])
items = st.builds(item, statuses, st.none() | past)
answers = st.one_of(items, items, items, st.just(Gone()))


def alone(state: ItemState, announced: PendingEvent) -> ItemState:
    return replace(state, events=[announced])


def stored(state: ItemState, found: PlannedStep) -> Step:
    """The row of product_sync that decides about a step."""
    name, product, scope_id = step_key(found)
    return state.step(PRODUCT_OF.get(name, product), scope_id)


@many
@given(states(), answers)
def test_the_same_arguments_give_the_same_plan(state: ItemState, of: Item | Gone) -> None:
    shuffled = replace(
        state,
        steps=_reversed(state.steps),
        walks=_reversed(state.walks),
        accounts=_reversed(state.accounts),
    )
    assert decided(state, of=of) == decided(state, of=of) == decided(shuffled, of=of)


def _reversed(mapping: Mapping[K, V]) -> dict[K, V]:
    return dict(reversed(list(mapping.items())))


@many
@given(states(), answers)
def test_every_event_has_an_outcome(state: ItemState, of: Item | Gone) -> None:
    outcomes = decided(state, of=of).outcomes
    assert set(outcomes) == {announced.id for announced in state.events}
    for outcome in outcomes.values():
        assert (outcome.state == "pending") is (outcome.due_at is not None)
        assert (
            outcome.state in ("pending", "applied") or outcome.state == "walking" or outcome.reason
        )


@many
@given(states(), answers)
def test_nothing_is_read_twice(state: ItemState, of: Item | Gone) -> None:
    keys = [step_key(found) for found in decided(state, of=of).steps]
    assert len(keys) == len(set(keys))


@many
@given(states(), answers)
def test_a_step_in_back_off_is_never_planned(state: ItemState, of: Item | Gone) -> None:
    for found in decided(state, of=of).steps:
        at = stored(state, found)
        assert at.dead_at is not None or at.next_try_at is None or at.next_try_at <= state.now


@many
@given(states(), items)
def test_each_event_is_judged_alone_and_none_is_settled_while_a_step_of_its_is_planned(
    state: ItemState, of: Item
) -> None:
    together = decided(state, of=of)
    keys = set()
    for announced in state.events:
        single = decided(alone(state, announced), of=of)
        outcome = single.outcomes[announced.id]
        # Events about the same thing share the schedule on which it is asked for again.
        if announced.confirming is None and outcome.confirming is None:
            assert outcome == together.outcomes[announced.id]
        if single.steps:
            assert together.outcomes[announced.id].state == "pending"
        keys |= {step_key(found) for found in single.steps}
    # Movements wait for the list that tells which investments have changed, whoever asks for it.
    if ("ReadProduct", "investments", WHOLE_ITEM) in keys:
        keys = {key for key in keys if key[0] != "ReadInvestmentTransactions"}
    assert {step_key(found) for found in together.steps} == keys


@many
@given(states(), items)
def test_a_dead_step_is_planned_only_for_an_event_newer_than_its_death(
    state: ItemState, of: Item
) -> None:
    for found in decided(state, of=of).steps:
        dead_at = stored(state, found).dead_at
        assert dead_at is None or any(
            _is_newer(announced, stored(state, found)) for announced in state.events
        )
    for announced in state.events:
        outcome = decided(alone(state, announced), of=of).outcomes[announced.id]
        if outcome.state == "dead" and outcome.reason != "account_not_of_item":
            assert any(s.dead_at and not _is_newer(announced, s) for s in state.steps.values())


def _is_newer(announced: PendingEvent, died: Step) -> bool:
    assert died.dead_seq is not None
    return announced.pending_seq > died.dead_seq


@many
@given(states(), items)
def test_to_events_that_are_all_newer_a_dead_step_is_like_one_that_never_failed(
    state: ItemState, of: Item
) -> None:
    newest = max((s.dead_at for s in state.steps.values() if s.dead_at), default=NOW)
    events = [
        msgspec.structs.replace(announced, pending_seq=place(newest + timedelta(seconds=1)))
        for announced in state.events
    ]
    alive = {
        key: msgspec.structs.replace(s, dead_at=None, dead_seq=None)
        for key, s in state.steps.items()
    }
    # A walk that died is asked for again; one under way is waited for.
    newer = replace(state, events=events, walks={})
    assert decided(newer, of=of) == decided(replace(newer, steps=alive), of=of)


@many
@given(states(), st.none() | past)
def test_a_collection_under_way_holds_back_item_events_and_nothing_else(
    state: ItemState, collected: Any
) -> None:
    done, under_way = (decided(state, of=item(s, collected)) for s in ("UPDATED", "UPDATING"))
    known = state.step("accounts").complete_read_at is not None
    goes_on = [
        announced
        for announced in state.events
        if announced.event in (*TRANSACTION_EVENTS, "item/deleted")
        or (announced.event in (*QUIET_EVENTS, READ_ACCOUNTS, "sync/deletions") and known)
        or (
            announced.event == "sync/verify"
            and known
            and state.now - announced.pending_since >= DAY
        )
    ]
    for announced in state.events:
        outcome = under_way.outcomes[announced.id]
        if announced in goes_on:
            assert outcome == done.outcomes[announced.id]
        elif announced.event in ("sync/missed-webhook-check", "sync/confirm") and known:
            assert (outcome.state, outcome.reason) == ("applied", None)
        elif state.now - announced.pending_since >= SUPERSEDED_AFTER:
            assert (outcome.state, outcome.reason) == ("ignored", "superseded")
        else:
            assert (outcome.state, outcome.reason) == ("pending", "collection_in_progress")
    moving = replace(state, events=goes_on)
    assert under_way.steps == decided(moving, of=item("UPDATED", collected)).steps


@many
@given(states())
def test_an_item_that_may_not_be_read_now_has_no_step_and_nothing_applied(state: ItemState) -> None:
    waits = Step("items", next_try_at=NOW + MINUTE)
    state = replace(state, steps={**state.steps, ("items", WHOLE_ITEM): waits})
    found = decided(state, of=NotRead())
    assert found.steps == []
    assert {outcome.due_at for outcome in found.outcomes.values()} == {NOW + MINUTE}


@many
@given(states(), answers)
def test_a_plan_whose_steps_succeed_shrinks_until_only_outcomes_are_left(
    state: ItemState, of: Item | Gone
) -> None:
    """As the engine does in rounds; a step planned again after its success would loop forever."""
    answered, taken = Answered(), set()
    found = decided(state, of=of)
    while found.steps:
        todo = [planned for planned in found.steps if step_key(planned) not in taken]
        if not todo:
            # The next read is for the next claim.
            assert any(outcome.confirming for outcome in found.outcomes.values())
            return
        for planned in todo:
            taken.add(step_key(planned))
            state, answered = _taken(state, answered, planned)
        found = decided(state, of=of, answered=answered)
    _check_served(state, found, answered, of)


def _taken(
    state: ItemState, answered: Answered, planned: PlannedStep
) -> tuple[ItemState, Answered]:
    """State and answers after a step has committed, a second later."""
    now = state.now + timedelta(seconds=1)
    match planned:
        case AskIds(_, event_ids):
            return replace(state, now=now), Answered(answered.events | set(event_ids))
        case AskAgain(account_id):
            again = answered.again | {account_id}
            return replace(state, now=now), replace(answered, again=again)
        case TombstoneItem():
            return replace(state, now=now, item_deleted=True, walks={}), answered
        case AskWalk(account_id):
            alive = msgspec.structs.replace(stored(state, planned), dead_at=None, next_try_at=None)
            walks = {**state.walks, account_id: walk(account_id)}
            return replace(_with(state, alive), now=now, walks=walks), answered
        case ReadDelta() | ReadAccounts() | ReadProduct() | ReadInvestmentTransactions():
            read: dict[str, Any] = {"complete_read_at": now, "watermark": now}
            read["source_updated_at"] = planned.source_updated_at
            if isinstance(planned, ReadInvestmentTransactions):
                read["fingerprint"] = planned.fingerprint
            if isinstance(planned, ReadDelta):
                read["read_since"] = planned.created_at_from
            at = stored(state, planned)
            kept: dict[str, Any] = {"walked_at": at.walked_at, "recent_at": at.recent_at}
            kept |= {"walked_seq": at.walked_seq, "recent_seq": at.recent_seq}
            fresh = made_step(at.product, at.scope_id, **(kept | read))
            return replace(_with(state, fresh), now=now), answered
        case ReadRecent():
            at = stored(state, planned)
            read = {"recent_at": now, "recent_seq": place(now), "dead_at": None, "dead_seq": None}
            alive = msgspec.structs.replace(at, **read, next_try_at=None)
            return replace(_with(state, alive), now=now), answered


def _with(state: ItemState, changed: Step) -> ItemState:
    return replace(state, steps={**state.steps, (changed.product, changed.scope_id): changed})


def _check_served(state: ItemState, found: SyncPlan, answered: Answered, of: Item | Gone) -> None:
    """An event is applied only if the data that it announces has been read since."""
    if isinstance(of, Gone):
        return
    for announced in state.events:
        if found.outcomes[announced.id].state != "applied" or announced.account_id is None:
            continue
        at = state.step("transactions", announced.account_id)
        if announced.event == "transactions/created":
            assert max(at.read_seq or 0, at.walked_seq or 0) >= announced.pending_seq
            walked = at.walked_seq is not None and at.walked_seq >= announced.pending_seq
            if announced.created_at_from is not None and at.read_since is not None and not walked:
                assert at.read_since <= announced.created_at_from
        else:
            assert announced.id in answered.events or not announced.ids_open


@many
@given(states(), answers)
def test_a_thing_has_one_schedule_of_confirmations_however_many_events_wait_for_it(
    state: ItemState, of: Item | Gone
) -> None:
    found = decided(state, of=of)
    schedules: dict[str, set[Any]] = {}
    for announced in state.events:
        outcome = found.outcomes[announced.id]
        # What waits for something else keeps what it had.
        fresh = (outcome.confirming, outcome.confirming_since) != (
            announced.confirming,
            announced.confirming_since,
        )
        if outcome.confirming is not None and fresh:
            schedules.setdefault(outcome.confirming, set()).add(outcome.confirming_since)
    assert all(len(since) == 1 for since in schedules.values())


@many
@given(states(), answers)
def test_what_is_read_again_comes_to_an_end_within_five_reads(
    state: ItemState, of: Item | Gone
) -> None:
    """Time passes from read to read, and each brings nothing.

    An item is gone only for item/deleted: another event's 404 is a failure of the item's step.
    """
    first = state.events[:1]
    assume(not isinstance(of, Gone) or state.item_deleted or first[0].event == "item/deleted")
    state = replace(state, events=first, walks={})
    rechecks, answered = 0, Answered()
    for _ in range(12):
        found = decided(state, of=of, answered=answered)
        outcome = found.outcomes[first[0].id]
        if outcome.confirming is None or outcome.due_at is None:
            return
        for planned in found.steps:
            state, answered = _taken(state, answered, planned)
        rechecks += bool(found.steps) or outcome.confirming == "items"
        announced = msgspec.structs.replace(
            state.events[0],
            confirming=outcome.confirming,
            confirming_since=outcome.confirming_since,
        )
        later = max(state.now, outcome.due_at) + timedelta(seconds=1)
        state = replace(state, events=[announced], now=later)
        if outcome.confirming == "items":
            seen = msgspec.structs.replace(state.step("items"), complete_read_at=later)
            state = _with(state, seen)
    raise AssertionError(f"still looked at after {rechecks} looks")
