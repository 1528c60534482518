"""Claims of docs/security.md and docs/lgpd.md that no other test checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from tests.support.pluggy_stub import PluggyStub, Said, reading
from tests.support.receiver import event_body, open_receiver
from worker.pluggy_api.errors import PluggyError

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "docs" / name for name in ("security.md", "lgpd.md", "roles.md")]
OLD, NEW = "the-old-secret-of-the-tests", "the-new-secret-of-the-tests"


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_every_test_that_a_claim_names_is_there(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text(encoding="utf-8"))
    assert named
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") or not name, (file, name)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_no_key_to_another_host(redis: ArqRedis, status: int) -> None:
    async with PluggyStub() as elsewhere:
        away = Said(status, headers={"Location": f"{elsewhere.url}/items/x"})
        async with PluggyStub(away) as pluggy, reading(pluggy.url, redis) as reader:
            with pytest.raises(PluggyError):
                await reader.next_transactions(f"{elsewhere.url}/v2/transactions?after=x")
        assert pluggy.count("GET") == 1
        async with PluggyStub(auth=(away,)) as pluggy, reading(pluggy.url, redis) as reader:
            with pytest.raises(PluggyError):
                await reader.next_transactions("?after=x")
        assert elsewhere.asked == []


async def test_a_secret_is_changed_without_one_refused_delivery(
    database_url: str, redis: ArqRedis, redis_url: str
) -> None:
    """Step by step: what Pluggy uses at the time, and what it may still repeat."""
    for ours, theirs in (((OLD,), [OLD]), ((NEW, OLD), [OLD, NEW]), ((NEW,), [NEW])):
        async with open_receiver(database_url, redis_url, secrets=ours) as receiver_client:
            for secret in theirs:
                assert (await receiver_client.deliver(event_body(), secret=secret)).status == 202
                by_path = await receiver_client.deliver(
                    event_body(), secret=None, path=f"/{secret}"
                )
                assert by_path.status == 202
            gone = {OLD, NEW} - set(ours)
            for secret in gone:
                assert (await receiver_client.deliver(event_body(), secret=secret)).status == 401
