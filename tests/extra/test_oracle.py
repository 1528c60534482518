"""After any sequence of events and faults Postgres equals Pluggy, row for row; and who says so can
tell when it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.campaign import WHOLE, Campaign, play, play_trace
from tests.oracle.draw import INGREDIENTS, draw_scenarios
from tests.oracle.freshness import (
    FRESH,
    GENERAL,
    NOT_COLLECTED,
    PENDING,
    QUOTA_SPENT,
    WARNED,
    expected,
)
from tests.oracle.judge import Diverged, Judge
from tests.oracle.play import Player
from tests.oracle.reconnection import withdraw_connector
from tests.oracle.rest import rest
from tests.oracle.scenario import WITHDRAWN, Scenario, Step, read_trace
from tests.oracle.shrink import shrink
from tests.oracle.stack import OracleStack, open_stack

SEED = 2026
KNOWN_ITEM: list[Step] = [{"do": "connect"}, {"do": "rest", "ms": 20_000}]
pytestmark = pytest.mark.timeout(1800)  # HANG_S, a few times
SABOTAGE = {
    "different in amount": "UPDATE pluggy.transactions SET amount = amount + 1 WHERE item_id = $1",
    "missing": "DELETE FROM pluggy.transactions WHERE item_id = $1",
    "tombstoned": "UPDATE pluggy.transactions SET deleted_at = now() WHERE item_id = $1",
    "extra": (
        "INSERT INTO pluggy.transactions (item_id, id, account_id, amount, date, posted_on,"
        " payload, row_hash, row_version, run_id)"
        " SELECT item_id, gen_random_uuid(), account_id, amount, date, posted_on,"
        " payload, row_hash, row_version, run_id FROM pluggy.transactions WHERE item_id = $1"
    ),
    "different in name": "UPDATE pluggy.accounts SET name = 'another' WHERE item_id = $1",
    "acknowledged, not stored": "DELETE FROM pluggy_sync.webhook_events WHERE item_id = $1",
}


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[OracleStack]:
    """The whole service, started once."""
    async with open_stack(seed=SEED) as running:
        await withdraw_connector(running)
        yield running


async def _rested(stack: OracleStack, scenario: Scenario) -> Player:
    """A scenario that has been played, and whose first item is stored."""
    player = Player(stack, scenario)
    await player.play()
    await player.delivered()
    await rest(stack, player.items[0].id)
    return player


@pytest.mark.parametrize("shown", SABOTAGE)
async def test_the_judge_sees_what_is_wrong(stack: OracleStack, shown: str) -> None:
    player = await _rested(stack, Scenario(0, [{"transactions": 40}], KNOWN_ITEM))
    await stack.db.execute(SABOTAGE[shown], player.items[0].id)
    try:
        with pytest.raises(Diverged, match=shown):
            await Judge(player).judge()
    finally:
        await player.leave()


async def test_the_judge_sees_an_item_that_was_not_kept(stack: OracleStack) -> None:
    again: Step = {"do": "reconnect", "historyDays": 90, "reworded": False}
    options = {"transactions": 40, "connectorId": WITHDRAWN}
    player = await _rested(stack, Scenario(0, [options], [*KNOWN_ITEM, again]))
    await stack.db.execute("UPDATE pluggy_sync.worker_settings SET keep_ended = false")
    try:
        with pytest.raises(Diverged, match="was not kept"):
            await Judge(player).judge()
    finally:
        await stack.db.execute("UPDATE pluggy_sync.worker_settings SET keep_ended = true")
        await player.leave()


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ({"isUpdated": False, "warnings": []}, NOT_COLLECTED),
        ({"isUpdated": True, "warnings": [{"code": "001"}]}, GENERAL),
        ({"isUpdated": True, "warnings": [{"code": "ACCT_003"}]}, WARNED),
        ({"isUpdated": False, "warnings": [{"code": "423"}]}, QUOTA_SPENT),
        ({"isUpdated": True, "warnings": []}, FRESH),
        (None, FRESH),
    ],
)
def test_freshness_is_judged_by_what_pluggy_shows(
    detail: dict[str, Any] | None, shown: tuple[str, str | None]
) -> None:
    item = {"statusDetail": {"loans": detail}}
    assert expected(item, "loans") == shown
    assert expected(item, "identities") == FRESH


def test_freshness_of_a_list_with_resources_that_wait_is_incomplete() -> None:
    item = {"statusDetail": None, "hasResourcesPendingAuthorization": True}
    assert expected(item, "accounts") == PENDING
    assert expected(item, "transactions") == FRESH


async def test_a_failure_leaves_a_trace_that_fails_again(stack: OracleStack) -> None:
    impossible: Step = {"do": "collect", "order": {"created": -1}}
    scenario = Scenario(1, [{"transactions": 5}], [*KNOWN_ITEM, impossible])
    failure = await play(stack, scenario)
    assert failure is not None
    path = Path(failure.splitlines()[0].rpartition(" ")[2])
    assert read_trace(path).items == scenario.items
    assert impossible in read_trace(path).steps
    assert await play_trace(stack, path, times=1) is not None


async def test_a_trace_shrinks_to_the_steps_that_matter() -> None:
    steps: list[Step] = [{"do": "pause", "ms": number} for number in range(20)]
    matter = [steps[3], steps[17]]

    async def fails(scenario: Scenario) -> bool:
        return all(step in scenario.steps for step in matter)

    assert (await shrink(Scenario(2, [], steps), fails)).steps == matter


def test_every_scenario_has_steps_enough() -> None:
    drawn = list(islice(draw_scenarios(SEED, lambda: INGREDIENTS), WHOLE))
    assert min(scenario.acts for scenario in drawn) >= 15


@pytest.mark.timeout(7200)
async def test_postgres_equals_pluggy_after_every_scenario(
    stack: OracleStack, capfd: pytest.CaptureFixture[str]
) -> None:
    campaign = Campaign(stack, seed=SEED)
    await campaign.run(scenarios=WHOLE)
    with capfd.disabled():
        print(f"\n{campaign.report()}")
    assert campaign.failures == []
    assert campaign.rare() == set()
    assert campaign.played >= WHOLE
