"""Checks of Pluggy: keys, the application of this database, and its webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from ops.cli.doctor.check import ERROR, OK, WARNING, Check
from ops.cli.terminal_text import counted
from ops.cli.webhook_trial import try_delivery
from worker.infra.postgres import Pool
from worker.infra.settings import PluggySettings
from worker.maintenance.installation import remembered_url
from worker.maintenance.subscriptions import (
    Expected,
    Finding,
    fetch_subscriptions,
    judge,
    leads_to_receiver,
)
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.errors import PluggyError, PluggyHalt, classify
from worker.store import operating
from worker.store.installation import load_installation

AREA: Final = "pluggy"
WEBHOOK: Final = "webhook"
REGISTER: Final = "pluggy-sync webhooks register"
FAULTS: Final = {
    "missing": (ERROR, "no webhook announces it", REGISTER),
    "disabled": (ERROR, "Pluggy has disabled it after failures", REGISTER),
    "wrong_secret": (ERROR, "it carries another secret", "pluggy-sync webhooks register"),
    "wrong_path": (ERROR, "its path does not lead to the receiver", "pluggy-sync webhooks list"),
    "wrong_url": (WARNING, "it has this host and another path", "pluggy-sync webhooks list"),
    "double": (WARNING, "another webhook announces the same", "pluggy-sync webhooks list"),
}


async def check_keys(client: PluggyClient) -> Check:
    """Whether Pluggy gives a key for the credentials, and accepts it."""
    try:
        await client.probe(new_key=True, count=lambda: None)
    except PluggyHalt as error:
        return Check(ERROR, AREA, error.advice)
    except PluggyError as error:
        what = f"Pluggy does not answer at PLUGGY_BASE_URL as it should ({classify(error).code})"
        return Check(ERROR, AREA, what, "curl -I $PLUGGY_BASE_URL")
    return Check(OK, AREA, "the keys are accepted")


async def check_application(db: Pool, settings: PluggySettings) -> Check:
    """Whether this database is the mirror of this application. Raises asyncpg's errors."""
    stored = await load_installation(db)
    ours = (settings.pluggy_client_id, remembered_url(settings.pluggy_base_url))
    if stored is None:
        return Check(OK, AREA, "this database mirrors no application yet")
    if (stored.client_id, stored.base_url) != ours:
        what = "this database mirrors another application: use its own, or take it over"
        return Check(ERROR, AREA, what, "pluggy-sync migrate --adopt")
    return Check(OK, AREA, "this database is the mirror of this application")


async def check_webhooks(client: PluggyClient, expected: Expected) -> list[Check]:
    """What is wrong with the webhooks that Pluggy lists."""
    try:
        findings = judge(await fetch_subscriptions(client), expected)
    except PluggyError as error:
        return [Check(ERROR, WEBHOOK, f"Pluggy does not list them ({classify(error).code})")]
    faults = list(_faults(findings))
    return faults or [Check(OK, WEBHOOK, "every event is announced, once and with the secret")]


def _faults(findings: list[Finding]) -> Iterator[Check]:
    for finding in findings:
        if (fault := FAULTS.get(finding.state)) is not None:
            state, what, command = fault
            yield Check(state, WEBHOOK, f"{finding.event}: {what}", command)


async def check_delivery(db: Pool, expected: Expected) -> list[Check]:
    """Deliver a ping with each secret, and count items with webhooks beside the application's."""
    if not leads_to_receiver(expected.url):
        return [Check(ERROR, WEBHOOK, "WEBHOOK_URL has to end in /webhooks/pluggy")]
    found = []
    for number, secret in enumerate(expected.secrets, start=1):
        trial = await try_delivery(db, expected, secret)
        what = f"a delivery with secret {number} of {len(expected.secrets)}: {trial.detail}"
        command = None if trial.arrived else "pluggy-sync webhooks test"
        found.append(Check(OK if trial.arrived else ERROR, WEBHOOK, what, command))
    urls = [expected.url, *(f"{expected.url}/{quote(s, safe='')}" for s in expected.secrets)]
    if items := await operating.count_items_with_webhook(db, urls=urls):
        what = counted(items, "item has a webhook of its own", "items have webhooks of their own")
        what += " beside the application's: each of their events comes twice"
        found.append(Check(WARNING, WEBHOOK, what, "pluggy-sync items show ID"))
    return found
