"""`pluggy-sync connect-token`: a token with which the widget connects or reconnects a bank."""

from __future__ import annotations

import uuid
from typing import Any, Final

import click

from ops.cli import console
from ops.cli.pluggy import pluggy
from ops.cli.refusals import explain_refusal

LIFETIME_S: Final = 30 * 60


@click.command("connect-token")
@click.option("--user", "client_user_id", help="clientUserId of the items that it connects.")
@click.option(
    "--webhook-url",
    callback=console.deliverable_url,
    help="webhookUrl of these items, beside the application's webhook.",
)
@click.option("--avoid-duplicates", is_flag=True, help="Refuse credentials that an item has.")
@click.option("--oauth-redirect-uri", help="Where the bank sends the person back to.")
@click.option("--item", "item_id", type=click.UUID, help="Reconnect this item.")
@console.json_option
def connect_token(item_id: uuid.UUID | None, as_json: bool, **options: Any) -> None:
    """Print a connect token for Pluggy's widget: for half an hour, and stored nowhere."""
    names = {"client_user_id": "clientUserId", "webhook_url": "webhookUrl"}
    names |= {"avoid_duplicates": "avoidDuplicates", "oauth_redirect_uri": "oauthRedirectUri"}
    # Only what stands inside of options counts.
    body: dict[str, Any] = {"options": {names[name]: v for name, v in options.items() if v}}
    if item_id is not None:
        body["itemId"] = str(item_id)
    token = console.run(_create(body))
    if as_json:
        console.print_json({"accessToken": token, "expires_in_s": LIFETIME_S})
    else:
        click.echo(token)


async def _create(body: dict[str, Any]) -> str:
    """https://docs.pluggy.ai/reference/connect-token-create"""
    from worker.infra.lanes import Lane
    from worker.infra.settings import PluggySettings, load
    from worker.pluggy_api.http import Change
    from worker.pluggy_api.payloads import decode_object

    async with pluggy(load(PluggySettings), explain_refusal) as (_, client):
        change = Change("POST", body)
        answer = await client.call(
            "/connect_token", lane=Lane.LIVE, count=lambda: None, change=change
        )
    token = decode_object(answer.body).get("accessToken")
    if not isinstance(token, str):
        raise console.CommandFailed("Pluggy's answer holds no accessToken")
    return token
