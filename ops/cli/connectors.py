"""`pluggy-sync connectors`: the banks and brokers that Pluggy offers, and how well they work."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

import click

from ops.cli import console
from ops.cli.pluggy import pluggy
from ops.cli.refusals import explain_refusal

QUERY: Final = {
    "open_finance": "isOpenFinance",
    "sandbox": "sandbox",
    "payments": "supportsPaymentInitiation",
    "country": "countries",
    "type_": "types",
    "name": "name",
}


@click.group("connectors")
def connectors() -> None:
    """The banks and brokers that Pluggy offers."""


@connectors.command("list")
@click.option("--open-finance/--direct", default=None, help="Only such connectors.")
@click.option("--sandbox", is_flag=True, help="Also those of the sandbox.")
@click.option("--payments", is_flag=True, help="Only those that initiate payments.")
@click.option("--country", multiple=True, help="Of this country, such as BR; repeatable.")
@click.option("--type", "type_", multiple=True, help="Such as PERSONAL_BANK; repeatable.")
@click.option("--name", help="Whose name holds this text.")
@console.json_option
def list_(as_json: bool, **chosen: Any) -> None:
    """List connectors with their health and the rate of logins that worked in six hours."""
    found = console.run(_list({QUERY[name]: _text(v) for name, v in chosen.items() if _given(v)}))
    console.print_list("connectors", found, as_json=as_json)


def _given(value: Any) -> bool:
    return value is not None and value != () and (value is not False)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


async def _list(query: dict[str, str]) -> list[dict[str, Any]]:
    """https://docs.pluggy.ai/reference/connectors-list"""
    from worker.infra.lanes import Lane
    from worker.infra.settings import PluggySettings, load
    from worker.pluggy_api.endpoints import PluggyReader
    from worker.pluggy_api.payloads import decode_object

    path = f"/connectors?{urlencode(query | {'healthDetails': 'true'})}"
    async with pluggy(load(PluggySettings), explain_refusal) as (_, client):
        page = await PluggyReader(client, Lane.LIVE).rows(path)
    return [_shown(decode_object(bytes(row))) for row in page.rows]


def _shown(connector: dict[str, Any]) -> dict[str, Any]:
    health = connector.get("health") or {}
    details = health.get("details") or {}
    return {
        "id": connector.get("id"),
        "name": connector.get("name"),
        "type": connector.get("type"),
        "country": connector.get("country"),
        "open_finance": connector.get("isOpenFinance"),
        "sandbox": connector.get("isSandbox"),
        "payments": connector.get("supportsPaymentInitiation"),
        "health": health.get("status"),
        "stage": health.get("stage"),
        "connection_rate": details.get("connectionRateLast6Hours"),
    }
