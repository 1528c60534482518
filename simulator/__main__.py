"""The command line: `python -m simulator`."""

import asyncio
import contextlib
import gc
import signal
from typing import Any

import click
import uvloop
from aiohttp import web

from simulator.http.server import MAX_LINE, create_app
from simulator.options import Options, with_options
from simulator.state import STATE

HOST = "127.0.0.1"
# Time that requests under way have to end after a signal.
_GRACE_S = 1.0
# New objects between two collections: with Python's own number a full one stops all answers for
# 40 ms once there are some thousand rows, none of which is garbage.
_GC_THRESHOLD = 20_000


@click.command(
    # A secret among the arguments could be read by every user of the machine.
    context_settings={"show_default": True, "auto_envvar_prefix": "SIMULATOR"}
)
@with_options
def main(**options: Any) -> None:
    """A simulator of Pluggy's data API on loopback.

    Prints one line, "simulator ready http://127.0.0.1:PORT", once it listens, and stops on
    SIGINT or SIGTERM. Control calls live under /_simulator/.
    """
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(Options(**options)))


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
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
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
