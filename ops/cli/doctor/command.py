"""`pluggy-sync doctor`: show what the checks find, the heaviest first."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import click

from ops.cli import console
from ops.cli.doctor.check import ERROR, WARNING, in_order

EXIT_STATUS: Final = {ERROR: 2, WARNING: 1}


@click.command("doctor")
@console.json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check settings, Postgres, Redis, Pluggy and the webhook; name the command for each fault.

    It mends nothing. To WEBHOOK_URL it delivers a ping. Exit status: 0 all is well, 1 warnings,
    2 errors.
    """
    from ops.cli.doctor.examine import examine

    checks = in_order(console.run(examine()))
    worst = checks[0].state
    if as_json:
        console.print_json({"worst": worst, "checks": [asdict(check) for check in checks]})
    else:
        console.print_rows("checks", [asdict(check) for check in checks])
    context.exit(EXIT_STATUS.get(worst, 0))
