"""The Pluggy application of the database, which the ops process must not mistake for another."""

from __future__ import annotations

from worker.infra.postgres import Connection
from worker.maintenance.installation import SIMULATOR, refuse_foreign, remembered_url
from worker.store.installation import load_installation


class Installation:
    """Checked against the database until it is known there: by then a worker has started."""

    def __init__(self, client_id: str, base_url: str) -> None:
        self._client_id, self._base_url = client_id, base_url
        self._is_known = False

    @property
    def is_simulator(self) -> bool:
        """Whether Pluggy is a simulator: its address is on loopback."""
        return remembered_url(self._base_url) == SIMULATOR

    async def check(self, conn: Connection) -> None:
        """Raises ForeignInstallation if the database mirrors another application."""
        if self._is_known:
            return
        stored = await load_installation(conn)
        if stored is not None:
            refuse_foreign(stored, self._client_id, self._base_url)
            self._is_known = True
