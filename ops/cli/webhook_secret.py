"""`pluggy-sync webhooks rotate-secret`: from one secret to the next without a lost event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from ops.cli import console
from ops.cli.pluggy import pluggy
from ops.cli.terminal_text import counted

if TYPE_CHECKING:
    from ops.cli.webhook_trial import Trial
    from worker.infra.postgres import Pool
    from worker.maintenance.subscriptions import Expected
    from worker.pluggy_api.client import PluggyClient

SECRET_BYTES: Final = 32
STILL_WRONG: Final = ("wrong_secret", "missing", "disabled")
LAST_RETRY: Final = "3 hours"
"""Pluggy repeats a delivery for over two hours, with the headers that it had."""


@click.command("rotate-secret")
@console.json_option
def rotate_secret(as_json: bool) -> None:
    """Change the secret of the webhooks, step by step; run it again after each step.

    1. With one secret in WEBHOOK_SECRET: prints a new one to put before it (new,old).
    2. With two, once the receivers and workers have them: tries both at WEBHOOK_URL, has Pluggy
    send the new one, reads the webhooks back, and says when the old one can go.
    """
    done = console.run(_rotate())
    if as_json:
        console.print_json(done)
        return
    for line in (*done["done"], f"next: {done['next']}"):
        console.say(line)


async def _rotate() -> dict[str, Any]:
    from ops.cli.webhook_fixes import explain, load_expected

    settings, expected = load_expected()
    if len(expected.secrets) == 1:
        import secrets

        new = secrets.token_urlsafe(SECRET_BYTES)
        then = f"WEBHOOK_SECRET={new},<the present one>"
        return {
            "step": "new_secret",
            "new_secret": new,
            "done": ["a new secret is made; it is stored nowhere"],
            "next": f"set {then} for receivers, workers and this shell, restart them, repeat this",
        }
    async with pluggy(settings, explain) as (db, client):
        return await _exchange(db, client, expected)


async def _exchange(db: Pool, client: PluggyClient, expected: Expected) -> dict[str, Any]:
    from ops.cli.webhook_fixes import apply_fixes
    from ops.cli.webhook_trial import try_delivery
    from worker.maintenance.subscriptions import (
        Expected,
        fetch_subscriptions,
        judge,
        store_findings,
    )
    from worker.store import operating

    new, *old = expected.secrets
    for name, secret in (("new", new), ("old", old[0])):
        _require(name, await try_delivery(db, expected, secret))
    only_new = Expected(expected.url, expected.header, (new,))
    fixes = await apply_fixes(client, only_new)
    listed = await fetch_subscriptions(client)
    await store_findings(db, judge(listed, expected))
    if wrong := [f.event for f in judge(listed, only_new) if f.state in STILL_WRONG]:
        raise console.CommandFailed(f"read back, still wrong: {', '.join(wrong)}; repeat this")
    own_urls = [f"{expected.url}/{quote(secret, safe='')}" for secret in old]
    items = await operating.count_items_with_webhook(db, urls=own_urls)
    changed = counted(len(fixes), "webhook", "webhooks") + " changed"
    return _summary(["the receiver takes both secrets", changed, "read back: right"], items)


def _summary(done: list[str], items: int) -> dict[str, Any]:
    """What was done and comes next. items: how many have a webhook with the old secret."""
    if items:
        return {
            "step": "items",
            "done": done,
            "next": counted(items, "item has its own webhook", "items have their own webhooks")
            + " with the old secret: for each pluggy-sync items set-webhook, then repeat this",
        }
    return {
        "step": "exchanged",
        "done": done,
        "next": f"take the old secret out of WEBHOOK_SECRET in {LAST_RETRY}, when no retry has it",
    }


def _require(name: str, trial: Trial) -> None:
    if not trial.arrived:
        raise console.CommandFailed(
            f"nothing is changed: a delivery with the {name} secret fails: {trial.detail}"
        )
