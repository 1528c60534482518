"""`pluggy-sync webhooks`: show Pluggy's list of webhooks, and correct it."""

from __future__ import annotations

from dataclasses import asdict

import click

from ops.cli import console
from ops.cli.lazy import Lazy, LazyGroup


@click.group(
    "webhooks",
    cls=LazyGroup,
    lazy={
        "rotate-secret": Lazy(
            "ops.cli.webhook_secret", "rotate_secret", "Change the secret of the webhooks"
        )
    },
)
def webhooks() -> None:
    """Webhooks registered at Pluggy: their events and URLs."""


@webhooks.command("list")
@console.json_option
def list_(as_json: bool) -> None:
    """List every webhook of the application and what is wrong with it."""
    from ops.cli.webhook_fixes import list_webhooks

    console.print_list("webhooks", console.run(list_webhooks()), as_json=as_json)


@webhooks.command("register")
@click.option("--dry-run", is_flag=True, help="Only list what would be done.")
@click.option("--no-test", is_flag=True, help="Do not try WEBHOOK_URL first.")
@console.json_option
def register(dry_run: bool, no_test: bool, as_json: bool) -> None:
    """Register WEBHOOK_URL for every event, with the first secret of WEBHOOK_SECRET.

    First WEBHOOK_URL is tried as by `webhooks test`; nothing is changed if no delivery arrives.
    Webhooks of ours that are disabled or carry another secret are repaired, and missing ones are
    created. Webhooks with other URLs are left alone; so are duplicates, which only you may delete.
    """
    from ops.cli.webhook_fixes import register_url

    tries = not (no_test or dry_run)
    fixes, findings = console.run(register_url(dry_run=dry_run, tries=tries))
    if as_json:
        done = [{"event": fix.event, "action": fix.action} for fix in fixes]
        console.print_json({"dry_run": dry_run, "done": done, "webhooks": findings})
        return
    verb = "would be" if dry_run else "was"
    for fix in fixes:
        console.say(f"{fix.event}: {verb} {fix.action}")
    if not fixes:
        click.echo("nothing to do: every event is sent to WEBHOOK_URL")
    console.print_rows("webhooks", findings)


@webhooks.command("test")
@console.json_option
def test(as_json: bool) -> None:
    """Deliver a ping to WEBHOOK_URL with each secret, as Pluggy does, and see it arrive here."""
    from ops.cli.webhook_fixes import test_url

    trials = console.run(test_url())
    rows = [{"secret": f"{n} of {len(trials)}"} | asdict(t) for n, t in enumerate(trials, 1)]
    console.print_list("deliveries", rows, as_json=as_json)
    if wrong := next((trial for trial in trials if not trial.arrived), None):
        raise console.CommandFailed(f"no delivery to WEBHOOK_URL would do: {wrong.detail}")
