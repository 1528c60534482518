"""The installation: refuses to start with another Pluggy application than the database mirrors."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from worker.infra.lazy_log import LazyLog
from worker.infra.postgres import Pool
from worker.infra.settings import is_on_loopback
from worker.store import installation
from worker.store.installation import Installation

log = LazyLog()

SIMULATOR = "simulator"


class ForeignInstallation(Exception):
    """This database belongs to another Pluggy application; the text says what to do."""


def remembered_url(base_url: str) -> str:
    """A base URL as stored: any loopback address is the simulator, whatever its port."""
    if is_on_loopback(base_url):
        return SIMULATOR
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(netloc=parts.netloc.lower())).rstrip("/")


async def check_installation(db: Pool, client_id: str, base_url: str) -> None:
    """Remember the application at the first start; raise ForeignInstallation for any other one."""
    url = remembered_url(base_url)
    stored = await installation.load_installation(db)
    if stored is None:
        await installation.remember_installation(db, client_id=client_id, base_url=url)
        stored = await installation.load_installation(db)
    refuse_foreign(stored, client_id, base_url)


def refuse_foreign(stored: Installation | None, client_id: str, base_url: str) -> None:
    """Raise ForeignInstallation unless the stored application is this one."""
    url = remembered_url(base_url)
    if stored is None or (stored.client_id, stored.base_url) != (client_id, url):
        raise ForeignInstallation(
            "this database mirrors another Pluggy application"
            f" (client id {_short(stored.client_id if stored else '')},"
            f" {stored.base_url if stored else ''}); now configured: {_short(client_id)}, {url}."
            " Use its own database, or take it over with: pluggy-sync migrate --adopt"
        )


async def remember_settings(
    db: Pool, zone: str, requests_per_minute: int, *, keep_ended: bool = True
) -> None:
    """Store what views and statements need: zone of a row's day, Pluggy's limit, KEEP_ENDED."""
    known = await installation.remember_worker_settings(
        db, zone=zone, requests_per_minute=requests_per_minute, keep_ended=keep_ended
    )
    if known is None:
        log.warning("zone_unknown_to_postgres", zone=zone)


async def adopt_installation(db: Pool, client_id: str, base_url: str) -> None:
    """Make this database the mirror of the configured application."""
    await installation.adopt_installation(
        db, client_id=client_id, base_url=remembered_url(base_url)
    )


def _short(client_id: str) -> str:
    return client_id if len(client_id) <= 8 else f"{client_id[:8]}…"
