"""The merge: its three lists always lead from the old state to the new one."""

import copy
import itertools
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from simulator.bank.accounts import Account
from simulator.bank.movements import KINDS
from simulator.bank.people import Party
from simulator.bank.rows import Row
from simulator.clock import DAY_MS
from simulator.items.merge import Merge, content, match_key, merge

NOW_MS = 1_790_000_000_000
TODAY = NOW_MS // DAY_MS
OWNER = Party("Ana Silva", "111.444.777-35", {}, None)
ACCOUNT = Account(
    {"id": "a", "itemId": "i", "type": "BANK", "subtype": "CHECKING_ACCOUNT", "number": "1"},
    owner=OWNER,
    open_finance=False,
    closing_day=5,
)
KIND = KINDS["CHECKING_ACCOUNT"]["pix_out"]


def row(**fields: Any) -> Row:
    report: dict[str, Any] = {
        "id": "",
        "account": ACCOUNT,
        "kind": KIND,
        "party": None,
        "description": "PIX ENVIADO ANA",
        "category": "05070000",
        "cents": -1000,
        "date": TODAY * DAY_MS,
        "created": NOW_MS - DAY_MS,
        "updated": NOW_MS - DAY_MS,
        "posted": True,
    }
    return Row(**report | fields)


# Few values, so that equal keys, twins and near misses are the rule.
ROWS = st.builds(
    row,
    description=st.sampled_from(["PIX", "TED"]),
    cents=st.sampled_from([-100, -200]),
    date=st.sampled_from([TODAY * DAY_MS, (TODAY - 1) * DAY_MS]),
    posted=st.booleans(),
    order=st.integers(0, 1),
    provider_id=st.sampled_from([None, None, "p1", "p2", "p3"]),
)


def unique_provider_ids(rows: list[Row]) -> list[Row]:
    """A bank does not give one id to two rows."""
    seen: set[str | None] = set()
    kept = []
    for one in rows:
        if one.provider_id is None or one.provider_id not in seen:
            kept.append(one)
        seen.add(one.provider_id)
    return kept


LISTS = st.lists(ROWS, max_size=8).map(unique_provider_ids)


def stored_rows(rows: list[Row], prefix: str) -> list[Row]:
    named = [copy.copy(one) for one in rows]
    for number, one in enumerate(named):
        one.id = f"{prefix}{number}"
    return named


def merged(stored: list[Row], reported: list[Row], removed: list[Row] | None = None) -> Merge:
    numbers = itertools.count()
    return merge(
        stored,
        reported,
        removed=removed or [],
        now_ms=NOW_MS,
        new_id=lambda: f"new{next(numbers)}",
    )


def applied(stored: list[Row], change: Merge) -> dict[str, Row]:
    """What a mirror holds that follows the three lists by id."""
    state = {one.id: one for one in stored}
    for one in change.deleted:
        del state[one.id]
    for old, new in change.updated:
        assert state[old.id] is old
        state[new.id] = new
    for one in change.created:
        assert one.id not in state
        state[one.id] = one
    return state


@given(LISTS, LISTS, LISTS)
def test_the_three_lists_lead_from_the_old_state_to_what_the_bank_reports(
    old: list[Row], reported: list[Row], gone: list[Row]
) -> None:
    stored, removed = stored_rows(old, "old"), stored_rows(gone, "gone")
    state = applied(stored, merged(stored, reported, removed))
    assert Counter(map(content, state.values())) == Counter(map(content, reported))


@given(LISTS, LISTS)
def test_no_row_is_in_two_lists_and_no_id_is_given_twice(
    old: list[Row], reported: list[Row]
) -> None:
    stored = stored_rows(old, "old")
    change = merged(stored, reported)
    ids = [one.id for one in (*change.created, *change.deleted)]
    ids += [one.id for one, _ in change.updated]
    assert len(ids) == len(set(ids))
    assert all(one.created == one.updated == NOW_MS for one in change.created)
    assert all(new.created == one.created and new.updated == NOW_MS for one, new in change.updated)


@given(LISTS)
def test_what_is_reported_unchanged_changes_nothing(old: list[Row]) -> None:
    stored = stored_rows(old, "old")
    assert merged(stored, [copy.copy(one) for one in stored]) == Merge([], [], [])


@given(LISTS, LISTS)
def test_merging_the_same_report_again_changes_nothing(old: list[Row], reported: list[Row]) -> None:
    stored = stored_rows(old, "old")
    state = list(applied(stored, merged(stored, reported)).values())
    again = merged(state, reported)
    # Twins may trade places, which is an update of both; nothing comes or goes.
    assert not again.created
    assert not again.deleted


def test_a_pending_row_that_settles_keeps_its_id() -> None:
    stored = stored_rows([row(posted=False)], "old")
    change = merged(stored, [row(posted=True)])
    assert [(old.id, new.id, new.posted) for old, new in change.updated] == [("old0", "old0", True)]
    assert not change.created + change.deleted


def test_a_scheduled_row_that_settles_under_another_text_keeps_its_id_by_amount_and_day() -> None:
    stored = stored_rows([row(description="AGENDADO", posted=False)], "old")
    change = merged(stored, [row(description="PIX ENVIADO ANA")])
    assert [new.id for _, new in change.updated] == ["old0"]


def test_another_amount_without_the_banks_own_id_is_a_deletion_and_a_creation() -> None:
    stored = stored_rows([row(cents=-1000)], "old")
    change = merged(stored, [row(cents=-1001)])
    assert [one.id for one in change.deleted] == ["old0"]
    assert [one.id for one in change.created] == ["new0"]


def test_another_amount_under_the_banks_own_id_keeps_the_id() -> None:
    stored = stored_rows([row(cents=-1000, provider_id="p")], "old")
    change = merged(stored, [row(cents=-1001, provider_id="p")])
    assert [(new.id, new.cents) for _, new in change.updated] == [("old0", -1001)]


def test_one_of_two_twins_goes_and_the_other_keeps_the_first_id() -> None:
    stored = stored_rows([row(), row()], "old")
    change = merged(stored, [row()])
    assert [one.id for one in change.deleted] == ["old1"]
    assert not change.updated


def test_a_deleted_row_that_returns_has_its_old_id_and_a_new_creation_time() -> None:
    gone = stored_rows([row()], "gone")
    change = merged([], [row()], gone)
    assert [(one.id, one.created) for one in change.created] == [("gone0", NOW_MS)]


def test_of_two_scheduled_rows_of_one_amount_and_day_the_first_settles() -> None:
    stored = stored_rows(
        [row(description="A", posted=False), row(description="B", posted=False)], "old"
    )
    change = merged(stored, [row(description="C")])
    assert [new.id for _, new in change.updated] == ["old0"]
    assert [one.id for one in change.deleted] == ["old1"]


@given(LISTS, st.lists(st.tuples(st.integers(0, 7), st.none() | ROWS), max_size=4), LISTS)
def test_rows_that_are_not_like_any_edited_one_can_be_left_out(
    old: list[Row], edits: list[tuple[int, Row | None]], born: list[Row]
) -> None:
    """What the collection does to spare the merge the unchanged rows of long days."""
    stored = stored_rows(old, "old")
    edited = {f"old{number}": now for number, now in edits if number < len(stored)}
    reported = unique_provider_ids(
        [now for one in stored if (now := edited.get(one.id, one)) is not None] + born
    )
    touched = [one for one in stored if one.id in edited or not any(one is r for r in reported)]
    alike = {match_key(one) for one in (*touched, *reported) if not any(one is h for h in stored)}
    alike |= {match_key(one) for one in touched}
    narrow = merged(
        [one for one in stored if match_key(one) in alike],
        [one for one in reported if match_key(one) in alike],
    )
    assert narrow == merged(stored, reported)
