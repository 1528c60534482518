"""Connections of the commands that ask Pluggy, and its list of items."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ops.cli.console import CommandFailed, database
from ops.cli.item_ids import Line
from worker.infra.lanes import Lane
from worker.pluggy_api.errors import (
    ITEM_NOT_FOUND,
    PluggyError,
    PluggyHalt,
    classify,
)

if TYPE_CHECKING:
    from worker.infra.postgres import Pool
    from worker.infra.settings import PluggySettings
    from worker.pluggy_api.client import PluggyClient

ASK_PLUGGY = (
    "Pluggy has not enabled the list of items for this application: ask its support, or import a"
    " file of ids"
)


UNKNOWN_TO_PLUGGY = "Pluggy does not know it"


@asynccontextmanager
async def pluggy(
    settings: PluggySettings, explain: Callable[[PluggyError], str]
) -> AsyncIterator[tuple[Pool, PluggyClient]]:
    """The database and the client. explain: what a failure of Pluggy means for the command.

    Raises CommandFailed, ForeignInstallation, and as database().
    """
    from worker.infra.redis_client import connect
    from worker.maintenance.installation import check_installation
    from worker.pluggy_api.client import PluggyClient

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
    from worker.infra.settings import PluggySettings, load
    from worker.maintenance.items_list import ItemsListing
    from worker.pluggy_api.endpoints import PluggyReader

    listing = ItemsListing(datetime.now(UTC))
    async with pluggy(load(PluggySettings), _explain) as (_, client):
        await listing.read(PluggyReader(client, Lane.LIVE))
    return [Line(number, str(item), item) for number, item in enumerate(listing.ids, start=1)]


async def unknown_at_pluggy(item_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """Those that Pluggy does not know, one request each; none where no credentials are set.

    A Pluggy that does not answer is a warning: workers ask again. Raises CommandFailed if it
    refuses the credentials.
    """
    asked = list(item_ids)
    names = any(os.environ.get(f"PLUGGY_CLIENT_ID{suffix}") for suffix in ("", "_FILE"))
    if not (asked and names):
        return set()
    from worker.infra.settings import PluggySettings, load

    unknown = set()
    async with pluggy(load(PluggySettings), _explain) as (_, client):
        for item_id in asked:
            try:
                await client.call(f"/items/{item_id}", lane=Lane.LIVE, count=lambda: None)
            except PluggyHalt:
                raise
            except PluggyError as error:
                if error.code != ITEM_NOT_FOUND:
                    _warn_of(error)
                    break
                unknown.add(item_id)
    return unknown


def _warn_of(error: PluggyError) -> None:
    text = f"Pluggy cannot be asked whether it knows each item ({classify(error).code})"
    click.echo(f"pluggy-sync: warning: {text}; a worker asks later", err=True)


def _explain(error: PluggyError) -> str:
    from worker.maintenance.items_list import NOT_ENABLED

    code = classify(error).code
    return ASK_PLUGGY if code == NOT_ENABLED else f"nothing is imported: Pluggy has answered {code}"
