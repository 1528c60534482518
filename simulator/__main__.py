"""The command line: `python -m simulator`."""

import asyncio
import contextlib
import signal

import click
import uvloop
from aiohttp import web

from simulator.clock import parse_iso
from simulator.http.server import MAX_LINE, create_app
from simulator.state import STATE, Options

HOST = "127.0.0.1"
# Time that requests under way have to end after a signal.
_GRACE_S = 1.0


def _start(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return parse_iso(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"show_default": True})
@click.option("--port", default=0, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--seed", default=1, help="Same seed, same calls: the same data.")
@click.option("--webhook-url", help="Subscribe this URL to every event.")
@click.option("--webhook-secret", help="Sent with each delivery to --webhook-url.")
@click.option("--webhook-secret-header", default="X-Webhook-Secret", help="Header of the secret.")
@click.option("--rate-limit", default=360, help="Requests a minute per endpoint group; 0: none.")
@click.option("--clock-scale", default=1.0, help="Seconds that pass per real second; 0: none.")
@click.option(
    "--clock-start", "clock_start_ms", callback=_start, help="ISO time at the start [default: now]"
)
@click.option("--client-id", help="Accept only this client id [default: any UUID]")
@click.option("--client-secret", help="Accept only this secret [default: any]")
@click.option("--key-ttl", "key_ttl_s", default=7200, help="Seconds that an API key lives.")
@click.option(
    "--describe-expired/--no-describe-expired",
    default=True,
    help="Whether the 403 for an expired key has a codeDescription.",
)
@click.option(
    "--created-webhook-status",
    type=click.Choice(["200", "201"]),
    default="200",
    help="Answer to POST /webhooks.",
)
@click.option(
    "--legacy-transactions/--no-legacy-transactions",
    default=False,
    help="GET /transactions works instead of answering 410.",
)
@click.option("--list-items/--no-list-items", default=True, help="GET /v2/items is enabled.")
@click.option(
    "--public-webhook-urls-only/--no-public-webhook-urls-only",
    default=False,
    help="Refuse webhook URLs on loopback, as Pluggy does.",
)
@click.option(
    "--retry-rounds",
    "rounds_after_s",
    default="900,7200",
    callback=_seconds,
    help="Seconds before the second and the third round of three attempts.",
)
@click.option(
    "--attempt-gap", "attempt_gap_s", default=0.0, help="Seconds between attempts of a round."
)
@click.option("--disable-after", default=20, help="Events given up in a row that disable a hook.")
@click.option("--step-seconds", "step_s", default=1.0, help="Length of one step of a run.")
@click.option("--first-rows", default=60, help="Transactions of an item made by POST /items.")
@click.option("--rows-a-day", default=4, help="New transactions of an item per day.")
@click.option("--min-update-hours", default=0, help="PATCH /items earlier answers 409; 0: never.")
@click.option("--items-limit", default=0, help="POST /items beyond it answers 409; 0: no limit.")
def main(created_webhook_status: str, **options: object) -> None:
    """A simulator of Pluggy's data API on loopback.

    Prints one line, "simulator ready http://127.0.0.1:PORT", once it listens, and stops on
    SIGINT or SIGTERM. Control calls live under /_simulator/.
    """
    chosen = Options(created_webhook_status=int(created_webhook_status), **options)  # type: ignore[arg-type]
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(chosen))


async def _serve(options: Options) -> None:
    stop = _stop_signal()
    app = create_app(options)
    runner = web.AppRunner(
        app,
        access_log=None,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        shutdown_timeout=_GRACE_S,
    )
    await runner.setup()
    site = web.TCPSite(runner, HOST, options.port)
    try:
        await site.start()
    except OSError as error:
        raise click.ClickException(f"cannot listen on {HOST}:{options.port}: {error}") from error
    address = runner.addresses[0]
    url = f"http://{address[0]}:{address[1]}"
    app[STATE].listen_at(url)
    click.echo(f"simulator ready {url}")
    await stop.wait()
    await runner.cleanup()


def _stop_signal() -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    main()
