"""The installation: one database mirrors one Pluggy application."""

import asyncio
import uuid

import pytest
from structlog.testing import capture_logs

from ops.demo.processes import ChildEnded
from tests.support.stack import Stack
from tests.support.worker_process import WorkerProcess
from worker.infra.postgres import Pool
from worker.maintenance.installation import (
    ForeignInstallation,
    adopt_installation,
    check_installation,
    remembered_url,
)

OURS, ANOTHER = "6f1c2d9e-0000-4000-8000-000000000001", "7a1c2d9e-0000-4000-8000-000000000002"
PLUGGY = "https://api.pluggy.ai"


async def test_the_first_start_is_remembered_and_the_same_application_starts_again(
    db: Pool,
) -> None:
    for url in (PLUGGY, PLUGGY + "/", "https://API.Pluggy.ai"):
        await check_installation(db, OURS, url)
    row = await db.fetchrow("SELECT client_id, base_url FROM pluggy_sync.installation")
    assert row is not None
    assert tuple(row) == (OURS, PLUGGY)


@pytest.mark.parametrize(
    ("client_id", "url"),
    [(ANOTHER, PLUGGY), (OURS, "https://api.example"), (OURS, "http://127.0.0.1:9")],
)
async def test_another_application_is_refused_with_what_to_do(
    db: Pool, client_id: str, url: str
) -> None:
    await check_installation(db, OURS, PLUGGY)
    with pytest.raises(ForeignInstallation) as refused:
        await check_installation(db, client_id, url)
    assert "migrate --adopt" in str(refused.value)
    # Ids are shown as far as a person needs to tell two apart.
    assert client_id not in str(refused.value)
    assert client_id[:8] in str(refused.value)


async def test_an_adopted_database_is_another_s(db: Pool) -> None:
    await check_installation(db, OURS, PLUGGY)
    await adopt_installation(db, ANOTHER, "http://127.0.0.1:4711")
    await check_installation(db, ANOTHER, "http://localhost:1")
    with pytest.raises(ForeignInstallation):
        await check_installation(db, OURS, PLUGGY)


async def test_of_two_applications_that_start_first_one_is_refused(db: Pool) -> None:
    answers = await asyncio.gather(
        *(check_installation(db, client_id, PLUGGY) for client_id in (OURS, ANOTHER) * 5),
        return_exceptions=True,
    )
    refused = [isinstance(answer, ForeignInstallation) for answer in answers]
    assert refused in ([False, True] * 5, [True, False] * 5)


@pytest.mark.parametrize(
    ("change", "announced"),
    [
        (("", ""), "the database is not migrated: run pluggy-sync migrate"),
        (("/pluggy", "/nowhere_"), "the database of DATABASE_URL does not exist"),
        (
            ("?", "?unheard_of=1&"),
            "DATABASE_URL has an option, or this a role, unknown to Postgres",
        ),
    ],
)
async def test_a_worker_whose_database_is_of_no_use_ends_and_says_what_to_do(
    empty_database_url: str, redis_url: str, change: tuple[str, str], announced: str
) -> None:
    query = "" if "?" in empty_database_url else "?"
    database_url = (empty_database_url + query).replace(*change, 1)
    worker = WorkerProcess(database_url, redis_url, "http://127.0.0.1:1")
    with pytest.raises(ChildEnded, match="did not start"):
        await worker.__aenter__()
    assert await worker.ended() == 1
    assert worker.lines[-1] == f"pluggy-sync: {announced}\n"
    assert "Traceback" not in "".join(worker.lines)


async def test_work_on_a_database_of_an_older_release_stays_due_and_says_what_to_do(
    stack: Stack,
) -> None:
    item_id = (await stack.item())["id"]
    await stack.tell("item/created", item_id)
    await stack.db.execute("ALTER TABLE pluggy_sync.product_sync RENAME read_since TO unheard_of")
    with capture_logs() as lines:
        assert not await stack.worker.attend(uuid.UUID(item_id))
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["event"] == "postgres_not_migrated"
    assert line["advice"] == "the database is of an older release: run pluggy-sync migrate"
    assert "read_since" in line["missing"]
    assert set(await stack.states(item_id)) == {"pending"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:2/", "http://localhost"])
def test_any_loopback_address_is_the_simulator(url: str) -> None:
    assert remembered_url(url) == "simulator"


@pytest.mark.parametrize(
    ("url", "remembered"),
    [
        ("https://API.pluggy.AI/", "https://api.pluggy.ai"),
        ("https://gateway.example/Pluggy/", "https://gateway.example/Pluggy"),
        ("https://127.0.0.1.example", "https://127.0.0.1.example"),
    ],
)
def test_other_addresses_are_remembered_as_hosts_compare(url: str, remembered: str) -> None:
    assert remembered_url(url) == remembered
