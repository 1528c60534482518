"""`pluggy-sync items update`, `set-webhook`, `disable-auto-sync`: have Pluggy change an item."""

from __future__ import annotations

import uuid
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import quote

import click

from ops.cli import console
from ops.cli.pluggy import UNKNOWN_TO_PLUGGY, pluggy
from worker.infra.lanes import Lane
from worker.infra.settings import PluggySettings, load
from worker.maintenance.subscriptions import shown_url
from worker.pluggy_api.errors import ITEM_NOT_FOUND, PluggyError, classify
from worker.pluggy_api.http import Change
from worker.pluggy_api.payloads import decode_object

SHOWN: Final = ("id", "status", "executionStatus", "lastUpdatedAt", "nextAutoSyncAt")
RECONNECT: Final = "the person has to connect again: pluggy-sync connect-token --item"
REFUSALS: Final = {
    "400:ITEM_IS_ALREADY_UPDATING": "a collection is under way; see it end with: items show --wait",
    "400:ITEM_ALREADY_UPDATING": "a collection is under way; see it end with: items show --wait",
    "400:LAST_EXECUTION_HAD_LOGIN_ERROR": f"its last login failed; {RECONNECT}",
    "400:TOO_MANY_CONSECUTIVE_LOGIN_FAILURES": f"too many logins have failed; {RECONNECT}",
    "400:TOO_MANY_CONSECUTIVE_ERRORS": "five collections failed in a row: ask Pluggy's support",
    "400:CONNECTOR_OFFLINE": "the bank's connector is offline; see: connectors list --name",
    "400:CONNECTOR_REQUIRED_PARAMETER_VALIDATION_ERROR": f"the bank asks for more; {RECONNECT}",
    "400:MFA_PARAMERTER_WAS_ALREADY_USED_ERROR": f"its second factor is used up; {RECONNECT}",
    "400:SANDBOX_CLIENT_ITEM_UPDATE_NOT_ALLOWED": "an application on trial may not update items",
    "400:CLIENT_HAS_ITEM_UPDATES_DISABLED": "updates are switched off for this application",
    "409:CLIENT_IS_UPDATING_BEFORE_ALLOWED_FREQUENCY": "the pause that Pluggy asks for between two"
    " updates has not passed; items show says when it was collected last, and is by itself",
    "400:no_code": "an item of MeuPluggy cannot be updated here: the person does it in"
    " meu.pluggy.ai",
    ITEM_NOT_FOUND: UNKNOWN_TO_PLUGGY,
}

item_argument = click.argument("item_id", type=click.UUID, metavar="ID")


@click.command("update")
@item_argument
@console.json_option
def update(item_id: uuid.UUID, as_json: bool) -> None:
    """Ask Pluggy to collect an item again now; its webhooks bring the changes.

    A refusal is explained: too early, a login that failed, an item of MeuPluggy.
    """
    _report(item_id, _patch(f"/items/{item_id}", {}), as_json=as_json)


@click.command("set-webhook")
@item_argument
@click.option("--url", help="Its webhookUrl.  [default: WEBHOOK_URL with the secret in its path]")
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
    _report(item_id, _patch(f"/items/{item_id}/disable-auto-sync", {}), as_json=as_json)


async def _set_webhook(item_id: uuid.UUID, url: str | None) -> dict[str, Any]:
    return await _patch(f"/items/{item_id}", {"webhookUrl": url or _own_url()})


def _own_url() -> str:
    settings = load(PluggySettings)
    if settings.webhook_url is None or not settings.webhook_secrets:
        raise console.CommandFailed("WEBHOOK_URL or WEBHOOK_SECRET is missing; or name --url")
    return f"{settings.webhook_url}/{quote(settings.webhook_secrets[0], safe='')}"


def _report(
    item_id: uuid.UUID, change: Coroutine[Any, Any, dict[str, Any]], *, as_json: bool
) -> None:
    """Make the change and print the item as Pluggy answers it."""
    item = console.run(change)
    shown = {name: item.get(name) for name in SHOWN}
    if isinstance(url := item.get("webhookUrl"), str):
        shown["webhookUrl"] = shown_url(url, whole_path=True)
    if as_json:
        console.print_json({"item": shown})
        return
    console.print_fields(shown)
    click.echo(f"see what follows: pluggy-sync items show {item_id} --wait")


async def _patch(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """https://docs.pluggy.ai/reference/items-update, where PATCH alone asks for a collection."""
    async with pluggy(load(PluggySettings), explain_refusal) as (_, client):
        change = Change("PATCH", body)
        answer = await client.call(path, lane=Lane.LIVE, count=lambda: None, change=change)
    return decode_object(answer.body)


def explain_refusal(error: PluggyError) -> str:
    """Why Pluggy does not do it, and what to do then."""
    code = classify(error).code
    if error.status is None:
        return f"Pluggy does not answer at PLUGGY_BASE_URL as it should ({code})"
    if (known := REFUSALS.get(code)) is not None:
        return f"{known} ({code})"
    return f"Pluggy has answered {code}" + (f", request {error.error_id}" if error.error_id else "")
