"""Restated rows that are flagged because too many are gone at once, and their replacements."""

from __future__ import annotations

from tests.maintaining.test_restatements import link, stored_links
from tests.support.stack import Stack
from tests.syncing.test_transactions import changed

MANY = 30


async def flagged_ids(stack: Stack, item_id: str) -> set[str]:
    found = await stack.db.fetch(
        "SELECT transaction_id FROM pluggy_ops.flagged_deletions WHERE item_id = $1", item_id
    )
    return {str(record["transaction_id"]) for record in found}


async def many_restated(stack: Stack) -> tuple[str, set[str]]:
    """An item of one account, more of whose rows were restated than may be deleted at once."""
    item = await stack.synced_item(transactions=100, accounts=1)
    answer = await stack.collect(item["id"], restated=MANY)
    await stack.process_all(answer)
    gone = {i for ids in changed(answer, "deleted").values() for i in ids}
    assert await flagged_ids(stack, item["id"]) == gone
    return item["id"], gone


async def test_flagged_rows_with_a_certain_replacement_count_once(stack: Stack) -> None:
    item_id, gone = await many_restated(stack)
    assert len(await stack.live(item_id)) == 100 + MANY
    await link(stack)
    left = await flagged_ids(stack, item_id)
    linked = await stored_links(stack, item_id)
    assert set(linked) == gone - left
    assert len(linked) > MANY / 2
    live = await stack.live(item_id)
    assert not set(linked) & set(live)
    assert set(linked.values()) <= set(live)
    assert set(live) == set(await stack.truth(item_id)) | left
    [run] = await stack.db.fetch(
        "SELECT deleted FROM pluggy_sync.runs WHERE item_id = $1 AND kind = 'deletion_review'",
        item_id,
    )
    assert run["deleted"] == len(linked)


async def test_flagged_rows_that_nothing_replaces_stay_flagged(stack: Stack) -> None:
    """A few rows are new and look alike; that explains nothing of so many."""
    item = await stack.synced_item(transactions=100, accounts=1)
    answer = await stack.collect(item["id"], deleted=MANY, restated=3, created=5)
    await stack.process_all(answer)
    flagged = await flagged_ids(stack, item["id"])
    assert len(flagged) == MANY + 3
    await link(stack)
    assert await flagged_ids(stack, item["id"]) == flagged
    assert await stored_links(stack, item["id"]) == {}


async def test_what_is_linked_and_not_deleted_yet_is_deleted_by_the_next_pass(stack: Stack) -> None:
    item_id, _ = await many_restated(stack)
    await link(stack)
    linked = await stored_links(stack, item_id)
    await stack.db.execute(
        "UPDATE pluggy.transactions SET deleted_at = NULL, deletion_flagged_at = now(),"
        " deletion_flag = 'too_many_at_once' WHERE item_id = $1 AND deleted_at IS NOT NULL",
        item_id,
    )
    assert await flagged_ids(stack, item_id) >= set(linked)
    await link(stack)
    assert not await flagged_ids(stack, item_id) & set(linked)
    assert await stored_links(stack, item_id) == linked
