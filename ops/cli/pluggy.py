"""Connections of the commands that ask Pluggy, and its list of items."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from ops.cli.console import CommandFailed, database
from ops.cli.item_ids import Line
from worker.infra.lanes import Lane
from worker.infra.postgres import Pool
from worker.infra.redis_client import connect
from worker.infra.settings import PluggySettings, load
from worker.maintenance.installation import check_installation
from worker.maintenance.items_list import NOT_ENABLED, ItemsListing
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import PluggyError, PluggyHalt, classify

ASK_PLUGGY = (
    "Pluggy has not enabled the list of items for this application: ask its support, or import a"
    " file of ids"
)


@asynccontextmanager
async def pluggy(
    settings: PluggySettings, explain: Callable[[PluggyError], str]
) -> AsyncIterator[tuple[Pool, PluggyClient]]:
    """The database and the client. explain: what a failure of Pluggy means for the command.

    Raises CommandFailed, ForeignInstallation, and as database().
    """
    redis = connect(settings.redis_url.get_secret_value())
    client = PluggyClient.of(settings, redis)
    try:
        async with database(settings) as db, client:
            await check_installation(db, settings.pluggy_client_id, settings.pluggy_base_url)
            yield db, client
    except PluggyHalt as error:
        raise CommandFailed(error.advice) from error
    except PluggyError as error:
        raise CommandFailed(explain(error)) from error
    finally:
        await redis.aclose()


async def list_items() -> list[Line]:
    """The ids of Pluggy's list, its newest first, as lines. Raises CommandFailed."""
    listing = ItemsListing(datetime.now(UTC))
    async with pluggy(load(PluggySettings), _explain) as (_, client):
        await listing.read(PluggyReader(client, Lane.LIVE))
    return [Line(number, str(item), item) for number, item in enumerate(listing.ids, start=1)]


def _explain(error: PluggyError) -> str:
    code = classify(error).code
    return ASK_PLUGGY if code == NOT_ENABLED else f"nothing is imported: Pluggy has answered {code}"
