"""The judge of the chaos suite finds lost, duplicated and unfinished work."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from tests.chaos.judge import judge_database
from tests.chaos.ledger import ACKNOWLEDGED, REFUSED, UNANSWERED, Account, Ledger, read_ledger
from tests.support.receiver import event_body
from tests.support.stack import now
from worker.inbox.accept import accept_events
from worker.inbox.events import parse_webhook
from worker.infra.postgres import Pool


async def stored(db: Pool, state: str, reason: str | None = None) -> str:
    """An event that has ended in a state; returns its id."""
    body = event_body()
    await accept_events(db, [parse_webhook(json.dumps(body).encode(), now())])
    await db.execute(
        "UPDATE pluggy_sync.webhook_events SET state = $1, reason = $2 WHERE event_id = $3",
        state,
        reason,
        body["eventId"],
    )
    return str(body["eventId"])


async def test_every_end_of_an_acknowledged_event_is_distinguished(db: Pool) -> None:
    good = {
        await stored(db, "applied"),
        await stored(db, "ignored", "payment_event"),
        await stored(db, "dead", "unstorable"),
    }
    unsettled = {
        await stored(db, "pending"),
        await stored(db, "walking"),
        await stored(db, "dead"),
    }
    twice = await stored(db, "applied")
    await db.execute(
        "INSERT INTO pluggy_sync.webhook_events"
        " (event_id, body_sha256, event, lane, state, body, received_at)"
        " SELECT event_id, '\\x00', event, lane, state, body, received_at"
        " FROM pluggy_sync.webhook_events WHERE event_id = $1",
        twice,
    )
    verdict = await judge_database(
        db, Account(acknowledged={*good, *unsettled, twice, "never stored"})
    )
    assert (verdict.lost, set(verdict.unsettled)) == (["never stored"], unsettled)
    assert (verdict.stored_twice, verdict.doubled) == ([twice], 1)
    assert verdict.ends == {"applied": 1, "ignored: payment_event": 1, "dead: unstorable": 1}


async def test_a_row_under_two_items_is_found(db: Pool) -> None:
    row_id = uuid.uuid4()
    for _ in range(2):
        await db.execute(
            "INSERT INTO pluggy.consents (item_id, id, payload, row_hash, row_version, run_id)"
            " VALUES ($1, $2, '{}', '\\x00', 1, 1)",
            uuid.uuid4(),
            row_id,
        )
    verdict = await judge_database(db, Account())
    assert (verdict.rows_twice, verdict.doubled) == (1, 1)


def test_a_ledger_balances_if_every_post_has_come_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        for event_id, outcome in (
            ("a", REFUSED),
            ("b", UNANSWERED),
            ("a", ACKNOWLEDGED),
            ("b", ACKNOWLEDGED),
            ("a", ACKNOWLEDGED),
        ):
            ledger.answered(ledger.sent(event_id), event_id, outcome)
        assert read_ledger(path.read_text().splitlines()).balanced
        # On disk before the POST that it is about.
        ledger.sent("c")
        account = read_ledger(path.read_text().splitlines())
    assert (account.sent, account.acknowledged) == (6, {"a", "b"})
    assert account.outcomes == {REFUSED: 1, UNANSWERED: 1, ACKNOWLEDGED: 3}
    assert not account.balanced


@pytest.mark.parametrize("outcome", ["status-400", "status-500"])
def test_any_other_answer_unbalances_a_ledger(tmp_path: Path, outcome: str) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.answered(ledger.sent("a"), "a", outcome)
    assert not read_ledger((tmp_path / "ledger").read_text().splitlines()).balanced
