"""Pluggy's list of items, for `pluggy-sync items import --from-pluggy`."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.cli.console import CommandFailed, database
from ops.cli.item_ids import Line
from worker.infra.lanes import Lane
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


async def list_items() -> list[Line]:
    """The ids of Pluggy's list, its newest first, as lines. Raises CommandFailed."""
    settings = load(PluggySettings)
    redis = connect(settings.redis_url.get_secret_value())
    client, listing = PluggyClient.of(settings, redis), ItemsListing(datetime.now(UTC))
    try:
        async with database(settings) as db, client:
            await check_installation(db, settings.pluggy_client_id, settings.pluggy_base_url)
            await listing.read(PluggyReader(client, Lane.LIVE))
    except PluggyError as error:
        raise CommandFailed(_explain(error)) from error
    finally:
        await redis.aclose()
    return [Line(number, str(item), item) for number, item in enumerate(listing.ids, start=1)]


def _explain(error: PluggyError) -> str:
    if isinstance(error, PluggyHalt):
        return error.advice
    code = classify(error).code
    return ASK_PLUGGY if code == NOT_ENABLED else f"nothing is imported: Pluggy has answered {code}"
