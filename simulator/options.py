"""The options of a simulator: one list for the command line and for code."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import click

from simulator.clock import parse_iso


def _option(fallback: Any, text: str, *names: str, **more: Any) -> Any:
    """A field with its help. names: of its flag, where that is not the field's own."""
    return field(default=fallback, metadata={"names": names, "help": text, **more})


def _start(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_iso(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@dataclass(frozen=True)
class Options:
    """The settings of a simulator, fixed at its start."""

    port: int = _option(0, "Port on 127.0.0.1; 0 takes a free one.")
    seed: int = _option(1, "Same seed, same calls: the same data.")
    webhook_url: str | None = _option(None, "Subscribe this URL to every event.")
    webhook_secret: str | None = _option(None, "Sent with each delivery to --webhook-url.")
    webhook_secret_header: str = _option("X-Webhook-Secret", "Header of the secret.")
    rate_limit: int = _option(360, "Requests a minute per endpoint group; 0: none.")
    clock_scale: float = _option(1.0, "Seconds that pass per real second; 0: none.")
    clock_start_ms: int | None = _option(
        None, "ISO time at the start [default: now]", "--clock-start", callback=_start
    )
    client_id: str | None = _option(None, "Accept only this client id [default: any UUID]")
    client_secret: str | None = _option(None, "Accept only this secret [default: any]")
    key_ttl_s: int = _option(7200, "Seconds that an API key lives.", "--key-ttl")
    describe_expired: bool = _option(
        True, "Whether the 403 for an expired key has a codeDescription."
    )
    created_webhook_status: int = _option(
        200, "Answer to POST /webhooks.", type=click.Choice([200, 201])
    )
    deleted_item_status: int = _option(
        200, "Answer to DELETE /items/{id}.", type=click.Choice([200, 204])
    )
    legacy_transactions: bool = _option(False, "GET /transactions works instead of answering 410.")
    list_items: bool = _option(True, "GET /v2/items is enabled.")
    public_webhook_urls_only: bool = _option(
        False, "Refuse webhook URLs on loopback, as Pluggy does."
    )
    rounds_after_s: tuple[float, ...] = _option(
        (900.0, 7200.0),
        "Seconds before the second and the third round of three attempts.",
        "--retry-rounds",
        default="900,7200",
        callback=_seconds,
    )
    attempt_gap_s: float = _option(0.0, "Seconds between attempts of a round.", "--attempt-gap")
    disable_after: int = _option(20, "Events given up in a row that disable a hook.")
    step_s: float = _option(1.0, "Length of one step of a run.", "--step-seconds")
    first_rows: int = _option(60, "Transactions of an item made by POST /items.")
    rows_a_day: int = _option(4, "New transactions of an item per day.")
    min_update_hours: int = _option(0, "PATCH /items earlier answers 409; 0: never.")
    items_limit: int = _option(0, "POST /items beyond it answers 409; 0: no limit.")
    cursor_lists: bool = _option(False, "Every list is read by cursor, not by page number.")


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every field of Options as an option, in their order."""
    for each in reversed(fields(Options)):
        flag = f"--{each.name.replace('_', '-')}"
        if isinstance(each.default, bool):
            flag += f"/--no-{each.name.replace('_', '-')}"
        more: dict[str, Any] = {"default": each.default, **each.metadata}
        names = more.pop("names") or (flag,)
        command = click.option(*names, each.name, **more)(command)
    return command
