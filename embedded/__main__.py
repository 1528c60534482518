"""Run Postgres and Valkey in the foreground for development (`make services`)."""

import argparse
import os
import shlex
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from embedded.directories import EmbeddedError
from embedded.postgres import Postgres
from embedded.server import Server
from embedded.valkey import Valkey


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="keep the data here, durably")
    parser.add_argument("--tcp", action="store_true", help="listen on 127.0.0.1, with a password")
    return parser.parse_args()


def serve(data_dir: Path | None, *, tcp: bool) -> int:
    """Start the servers that are not given, print both URLs, and wait until a server ends.

    On standard output: each URL on its line, then both as one line for a shell.
    """
    kinds: dict[str, type[Server]] = {"DATABASE_URL": Postgres, "REDIS_URL": Valkey}
    started: list[Server] = []
    urls: dict[str, str] = {}
    with ExitStack() as stack:
        for variable, kind in kinds.items():
            url = os.environ.get(variable)
            if not url:
                own_dir = data_dir / kind.name.lower() if data_dir else None
                started.append(stack.enter_context(kind(own_dir, data_dir is not None, tcp)))
                url = started[-1].url
            urls[variable] = url
            print(f"{variable}={url}", flush=True)
        print("export " + " ".join(f"{k}={shlex.quote(v)}" for k, v in urls.items()), flush=True)
        print(farewell(started, data_dir), file=sys.stderr, flush=True)
        while all(server.running for server in started):
            time.sleep(0.2)
        ended = next(server.name for server in started if not server.running)
    print(f"{ended} has ended.", file=sys.stderr)
    return 1


def farewell(started: list[Server], data_dir: Path | None) -> str:
    """Sentence that says what Ctrl-C does to the servers and their data."""
    if not started:
        return "Both addresses were given: nothing was started. Ctrl-C ends this command."
    names = " and ".join(server.name for server in started)
    if data_dir:
        return f"Ctrl-C stops {names}; the data stays in {data_dir}."
    return (
        f"Ctrl-C stops {names} and DELETES the data."
        " To keep it, start with make services ARGS='--data-dir DIRECTORY'."
    )


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    options = arguments()
    with suppress(KeyboardInterrupt):
        try:
            sys.exit(serve(options.data_dir, tcp=options.tcp))
        except EmbeddedError as error:
            sys.exit(str(error))
        except OSError as error:
            named = f": {error.filename}" if error.filename else ""
            sys.exit(f"The servers cannot be started: {error.strerror or error}{named}")
