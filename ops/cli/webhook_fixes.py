"""Pluggy's webhooks of the application: what is wrong with them, and the changes that mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from ops.cli import console
from ops.cli.pluggy import pluggy
from ops.cli.webhook_trial import Trial, try_delivery
from worker.infra.lanes import Lane
from worker.infra.settings import PluggySettings, load
from worker.maintenance.subscriptions import (
    RECEIVER_PATH,
    Expected,
    Finding,
    Subscription,
    carries_secret_in_path,
    fetch_subscriptions,
    judge,
    leads_to_receiver,
    shown_url,
    store_findings,
)
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.errors import PluggyError, classify
from worker.pluggy_api.http import Change

FIXABLE = ("disabled", "wrong_secret")


@dataclass(frozen=True, slots=True)
class Fix:
    """What is done about a finding: repair a webhook of ours, or create a missing one."""

    event: str
    hook: Subscription | None = None

    @property
    def action(self) -> str:
        return "repaired" if self.hook else "created"

    def request(self, expected: Expected) -> tuple[str, Change]:
        """Path and change; deliveries then carry the first of the secrets."""
        if self.hook is None:
            headers = {expected.header: expected.secrets[0]}
            made = {"event": self.event, "url": expected.url, "headers": headers}
            return "/webhooks", Change("POST", made)
        change = _fixed(self.hook, expected) | {"enabled": True}
        return f"/webhooks/{self.hook.id}", Change("PATCH", change)


def _fixed(hook: Subscription, expected: Expected) -> dict[str, Any]:
    """The secret where this webhook carries it: in its path, or in the header beside others."""
    secret = expected.secrets[0]
    if carries_secret_in_path(hook, expected):
        return {"url": f"{expected.url}/{quote(secret, safe='')}"}
    others = {k: v for k, v in hook.headers.items() if k.lower() != expected.header.lower()}
    return {"headers": others | {expected.header: secret}}


async def test_url() -> list[Trial]:
    """How a delivery with each secret goes. Raises CommandFailed, and as database()."""
    settings, expected = load_expected()
    async with console.database(settings) as db:
        return [await try_delivery(db, expected, secret) for secret in expected.secrets]


async def list_webhooks() -> list[dict[str, Any]]:
    """Every webhook, and those that are missing. Raises as pluggy()."""
    settings, expected = load_expected()
    async with pluggy(settings, explain) as (_, client):
        return _rows(judge(await fetch_subscriptions(client), expected))


async def register_url(*, dry_run: bool, tries: bool) -> tuple[list[Fix], list[dict[str, Any]]]:
    """What was done, or would be, and the webhooks then. Raises CommandFailed, and as pluggy()."""
    settings, expected = load_expected()
    async with pluggy(settings, explain) as (db, client):
        _require_receiver_path(expected)
        if tries and not (trial := await try_delivery(db, expected, expected.secrets[0])).arrived:
            raise console.CommandFailed(
                f"nothing was changed: no delivery to WEBHOOK_URL would do: {trial.detail}"
            )
        fixes = await apply_fixes(client, expected, dry_run=dry_run)
        hooks = await fetch_subscriptions(client)
        if not dry_run:
            # At once, and not by the watch in ten minutes: the overview is green again.
            await store_findings(db, judge(hooks, expected))
        return fixes, _rows(judge(hooks, expected))


async def apply_fixes(
    client: PluggyClient, expected: Expected, *, dry_run: bool = False
) -> list[Fix]:
    """Make Pluggy's list right; returns what was done, or would be. Raises PluggyError."""
    fixes = plan_fixes(await fetch_subscriptions(client), expected)
    for fix in fixes if not dry_run else ():
        path, change = fix.request(expected)
        await client.call(path, lane=Lane.LIVE, count=lambda: None, change=change)
    return fixes


def plan_fixes(hooks: Sequence[Subscription], expected: Expected) -> list[Fix]:
    """The changes that make the list right. A webhook that was disabled is enabled again."""
    by_id = {hook.id: hook for hook in hooks}
    findings = judge(hooks, expected)
    fixes = [Fix(f.event, by_id[f.hook_id or ""]) for f in findings if f.state in FIXABLE]
    return fixes + [Fix(f.event) for f in findings if f.state == "missing"]


def _rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in findings]


def load_expected() -> tuple[PluggySettings, Expected]:
    settings = load(PluggySettings)
    expected = Expected.of(settings)
    if expected is None:
        raise console.CommandFailed("WEBHOOK_URL is missing: the public address of the receiver")
    if not expected.secrets:
        raise console.CommandFailed("WEBHOOK_SECRET is missing: what deliveries have to carry")
    return settings, expected


def _require_receiver_path(expected: Expected) -> None:
    """Refuse a WEBHOOK_URL at which every delivery would be answered 404."""
    if not leads_to_receiver(expected.url):
        raise console.CommandFailed(
            f"WEBHOOK_URL has to end in {RECEIVER_PATH}, where the receiver answers;"
            f" it is {shown_url(expected.url, whole_path=True)}. Nothing was changed."
        )


def explain(error: PluggyError) -> str:
    code = classify(error).code
    if error.status == 400:
        code += "; WEBHOOK_URL has to be https with a public host name, at most 5 for each event"
    if error.status is None:
        return f"Pluggy does not answer at PLUGGY_BASE_URL as it should ({code})"
    return f"Pluggy has answered {code}"
