"""The main job: an announced item is mirrored row for row."""

from __future__ import annotations

from tests.support.stack import Stack


async def test_a_created_item_is_mirrored_row_for_row(stack: Stack) -> None:
    item = await stack.item(transactions=1200)
    await stack.process("item/created", item["id"])
    await stack.assert_equal(item["id"])
    assert len(await stack.live(item["id"])) >= 1200
    assert await stack.states(item["id"]) == ["applied"]
