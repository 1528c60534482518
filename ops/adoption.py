"""Settings of `pluggy-sync migrate --adopt`."""

from __future__ import annotations

from worker.infra.settings import Environment


class AdoptSettings(Environment):
    """The Pluggy application that the database mirrors from now on; no secret is needed."""

    pluggy_client_id: str
    pluggy_base_url: str = "https://api.pluggy.ai"
