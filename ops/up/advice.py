"""What `up` says once everything runs: what listens where, what is missing, the next step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from embedded.binaries import postgres_bin
from embedded.directories import server_account
from ops.up.data_directory import DataDirectory
from ops.up.settings import LOOPBACK, Ports, UpOptions, is_given
from worker.maintenance.subscriptions import RECEIVER_PATH

QUERY = "SELECT * FROM pluggy_live.accounts"


def summary(
    options: UpOptions,
    ports: Ports,
    given: Mapping[str, str],
    directory: DataDirectory | None,
    new_secret: str | None,
) -> str:
    """given: variables that `up` has set for the processes. new_secret: if not shown yet."""
    lines = [*_listening(options, ports, given)]
    if directory is not None and new_secret is not None:
        lines += [
            f"webhook secret  {new_secret}",
            f"                made here, shown this once, kept in {directory.secret_file}",
        ]
    if not options.simulator:
        lines += ["", *_events(ports)]
    connect = f"Next: connect a bank at  http://{LOOPBACK}:{ports.ops}/connect"
    lines += ["", connect, *_next(given, directory), ""]
    kept = f"; the data stays in {directory.path}" if directory else ""
    return "\n".join([*lines, f"Ctrl-C stops everything{kept}."])


def _listening(options: UpOptions, ports: Ports, given: Mapping[str, str]) -> Iterator[str]:
    for variable, name in (("DATABASE_URL", "Postgres"), ("REDIS_URL", "Redis")):
        yield f"{name:<16}{given.get(variable) or f'as {variable} says'}"
    pluggy = given.get("PLUGGY_BASE_URL", "")
    real = "as PLUGGY_BASE_URL says" if is_given("PLUGGY_BASE_URL") else "the real one"
    yield f"{'Pluggy':<16}" + (f"simulator at {pluggy}" if options.simulator else real)
    yield f"{'workers':<16}{options.workers}"
    yield f"{'ops':<16}http://{LOOPBACK}:{ports.ops}"
    yield f"{'receiver':<16}http://{LOOPBACK}:{ports.receiver}{RECEIVER_PATH}"


def _events(ports: Ports) -> Iterator[str]:
    """How Pluggy's events arrive, or how they can."""
    if is_given("WEBHOOK_URL"):
        yield "Have Pluggy send its webhooks:  pluggy-sync webhooks register"
        return
    yield "WEBHOOK_URL is not set: changes are found only by polling, and items are mirrored"
    yield "after /connect or `pluggy-sync items register ID`. A tunnel gives a public address:"
    yield f"  cloudflared tunnel --url http://{LOOPBACK}:{ports.receiver}"
    yield f"Then start again with WEBHOOK_URL=https://<its name>{RECEIVER_PATH}"


def _next(given: Mapping[str, str], directory: DataDirectory | None) -> Iterator[str]:
    if directory is not None:
        yield f"For other commands, in another terminal:  . {directory.environment_file}"
    if "DATABASE_URL" in given:
        yield f'{_psql()} "$DATABASE_URL" -c "{QUERY}"'


def _psql() -> str:
    return "psql" if shutil.which("psql") else str(postgres_bin(server_account()) / "psql")
