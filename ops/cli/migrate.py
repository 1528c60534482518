"""`pluggy-sync migrate`: bring the database up to date, or adopt it for another application."""

from __future__ import annotations

import click

from ops.cli import console


@click.command("migrate")
@click.option(
    "--adopt",
    is_flag=True,
    help="Make this the mirror of the application of PLUGGY_CLIENT_ID and PLUGGY_BASE_URL.",
)
@click.option(
    "--roles",
    is_flag=True,
    help="Also make the database roles of the processes, and keep their rights from then on.",
)
@console.json_option
def migrate_command(adopt: bool, roles: bool, as_json: bool) -> None:
    """Bring the database up to date; safe to repeat, and while the previous release runs."""
    applied = console.run(_migrate(adopt, roles))
    if as_json:
        console.print_json({"applied": applied, "adopted": adopt})
        return
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the database is up to date")
    if adopt:
        click.echo("adopted: this database mirrors the configured application")


async def _migrate(adopt: bool, roles: bool) -> list[str]:
    from ops.adoption import AdoptSettings
    from ops.cli.explanations import CONNECTION_ERRORS, explain
    from ops.migrations import migrate
    from worker.infra.settings import Environment, load
    from worker.maintenance.installation import adopt_installation

    # Before anything is changed, so that a missing name changes nothing.
    application = load(AdoptSettings) if adopt else None
    settings = load(Environment)
    try:
        applied = await migrate(settings.direct_url, roles=roles)
    except ValueError as error:
        raise console.CommandFailed(console.BAD_URL) from error
    except CONNECTION_ERRORS as error:
        name = "DATABASE_DIRECT_URL" if settings.database_direct_url else "DATABASE_URL"
        raise console.CommandFailed(explain(error, database=name)) from error
    if application is not None:
        async with console.database(settings) as db:
            await adopt_installation(db, application.pluggy_client_id, application.pluggy_base_url)
    return applied
