"""`pluggy-sync ops`: the process that answers operators and the company's own backend."""

from __future__ import annotations

import click

from ops.cli.errors import CommandFailed


@click.command("ops")
def ops() -> None:
    """Serve HTTP for your backend and for operators, at OPS_HOST and OPS_PORT."""
    import uvloop

    from ops.cli.explanations import ABOUT_US, explain
    from ops.web.serve import serve
    from ops.web.settings import OpsSettings
    from worker.infra import log as logs
    from worker.infra.settings import load

    try:
        settings = load(OpsSettings)
        logs.configure(settings.log_level, settings.log_format)
        uvloop.run(serve(settings))
    except ABOUT_US as error:
        raise CommandFailed(explain(error)) from error
