"""`pluggy-sync items update`, `set-webhook`, `disable-auto-sync`: have Pluggy change an item."""

from __future__ import annotations

import uuid
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import click

from ops.cli import console
from ops.cli.pluggy import pluggy
from ops.cli.refusals import explain_refusal

SHOWN: Final = ("id", "status", "executionStatus", "lastUpdatedAt", "nextAutoSyncAt")

item_argument = click.argument("item_id", type=click.UUID, metavar="ID")


@click.command("update")
@item_argument
@console.json_option
def update(item_id: uuid.UUID, as_json: bool) -> None:
    """Ask Pluggy to collect an item again now; its webhooks bring the changes.

    A refusal is explained, with what to do next: too early (by the hours that Pluggy names), a
    login that failed, an item of MeuPluggy.
    """
    _report(item_id, _patch(item_id, {}), as_json=as_json)


@click.command("set-webhook")
@item_argument
@click.option(
    "--url",
    callback=console.deliverable_url,
    help="Its webhookUrl.  [default: WEBHOOK_URL with the secret in its path]",
)
@console.json_option
def set_webhook(item_id: uuid.UUID, url: str | None, as_json: bool) -> None:
    """Give an item a webhook of its own, beside those of the application.

    Pluggy also collects the item then, and refuses as for `items update`. Each event of the item
    comes twice if the application has a webhook too; the second one is a duplicate.
    """
    _report(item_id, _set_webhook(item_id, url), as_json=as_json)


@click.command("disable-auto-sync")
@item_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@console.json_option
def disable_auto_sync(item_id: uuid.UUID, yes: bool, as_json: bool) -> None:
    """Have Pluggy no longer collect an item by itself; `items update` starts it again."""
    if not yes:
        click.confirm(f"Stop the automatic collections of item {item_id}?", abort=True, err=True)
    _report(item_id, _patch(item_id, {}, "/disable-auto-sync"), as_json=as_json)


async def _set_webhook(item_id: uuid.UUID, url: str | None) -> dict[str, Any]:
    return await _patch(item_id, {"webhookUrl": url or _own_url()})


def _own_url() -> str:
    from worker.infra.settings import PluggySettings, load

    settings = load(PluggySettings)
    if settings.webhook_url is None or not settings.webhook_secrets:
        raise console.CommandFailed("WEBHOOK_URL or WEBHOOK_SECRET is missing; or name --url")
    return f"{settings.webhook_url}/{quote(settings.webhook_secrets[0], safe='')}"


def _report(
    item_id: uuid.UUID, change: Coroutine[Any, Any, dict[str, Any]], *, as_json: bool
) -> None:
    """Make the change and print the item as Pluggy answers it."""
    from worker.maintenance.subscriptions import shown_url

    item = console.run(change)
    shown = {name: item.get(name) for name in SHOWN}
    if isinstance(url := item.get("webhookUrl"), str):
        shown["webhookUrl"] = shown_url(url, whole_path=True)
    if as_json:
        console.print_json({"item": shown})
        return
    console.print_fields(shown)
    click.echo(f"see what follows: pluggy-sync items show {item_id} --wait")


async def _patch(item_id: uuid.UUID, body: dict[str, Any], below: str = "") -> dict[str, Any]:
    """https://docs.pluggy.ai/reference/items-update, where PATCH alone asks for a collection."""
    from worker.infra.lanes import Lane
    from worker.infra.settings import PluggySettings, load
    from worker.pluggy_api.http import Change
    from worker.pluggy_api.payloads import decode_object

    explain, path = partial(explain_refusal, item_id=item_id), f"/items/{item_id}{below}"
    async with pluggy(load(PluggySettings), explain) as (_, client):
        change = Change("PATCH", body)
        answer = await client.call(path, lane=Lane.LIVE, count=lambda: None, change=change)
    return decode_object(answer.body)
