"""Checks of the environment: settings that are missing, wrong, or read by no process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib.metadata import version
from typing import Final

from ops.adoption import AdoptSettings
from ops.cli.doctor.check import ERROR, OK, WARNING, Check
from ops.web.settings import OpsSettings
from webhook_receiver.settings import ReceiverSettings
from worker.infra.settings import Environment, PluggySettings, SettingsError, load

PROCESSES: Final = (PluggySettings, ReceiverSettings, OpsSettings, AdoptSettings)
OURS: Final = ("PLUGGY_", "WEBHOOK_")
"""Prefixes that nobody else uses: such a name is a mistake, however far from ours."""
SIMILARITY: Final = 0.85
SHOWN: Final = ("aiohttp", "arq", "asyncpg", "pydantic-settings", "redis")

KNOWN: Final = frozenset(
    f"{field.upper()}{suffix}"
    for settings in PROCESSES
    for field in settings.model_fields
    for suffix in ("", "_FILE")
)


def check_settings() -> Iterator[Check]:
    """Check the settings that a worker and a receiver read, without any server."""
    faults = {
        fault for settings in (PluggySettings, ReceiverSettings) for fault in _faults(settings)
    }
    yield from (Check(ERROR, "settings", fault) for fault in sorted(faults))
    if not os.environ.get("WEBHOOK_URL"):
        what = "WEBHOOK_URL is not set: the watch cannot tell whether Pluggy sends webhooks here"
        yield Check(WARNING, "settings", what, "export WEBHOOK_URL=https://…/webhooks/pluggy")
    yield from _unread(os.environ)
    if not faults:
        yield Check(OK, "settings", "a worker and a receiver would start with these settings")


def check_versions() -> Check:
    libraries = ", ".join(f"{name} {version(name)}" for name in SHOWN)
    python = ".".join(map(str, sys.version_info[:3]))
    what = f"pluggy-sync {version('pluggy-sync')}, Python {python}, {libraries}"
    return Check(OK, "versions", what)


def _faults(settings: type[Environment]) -> list[str]:
    try:
        load(settings)
    except SettingsError as error:
        return str(error).split("; ")
    return []


def _unread(names: Iterable[str]) -> Iterator[Check]:
    """Variables that look like ours and that no process reads; their values are not shown."""
    for name in sorted(names):
        close = get_close_matches(name, KNOWN, n=1, cutoff=SIMILARITY)
        if name in KNOWN or not (close or name.startswith(OURS)):
            continue
        meant = f": {close[0]} is meant?" if close else ""
        yield Check(WARNING, "settings", f"no process reads {name}{meant}", f"unset {name}")
