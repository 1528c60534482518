"""The worker as a real process."""

from __future__ import annotations

from typing import Any, Self

from ops.demo.processes import ARQ_WORKER, Child, pluggy_settings
from tests.support.service_process import ServiceProcess
from tests.support.stack import CLIENT_ID, CLIENT_SECRET


def worker_settings(database_url: str, redis_url: str, pluggy_url: str) -> dict[str, str]:
    """The environment of a worker of the tests."""
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "LOG_FORMAT": "json"}
    return servers | pluggy_settings(pluggy_url, CLIENT_ID, CLIENT_SECRET)


class WorkerProcess(ServiceProcess):
    """`arq worker.main.WorkerSettings`; entered when it has started."""

    arguments = ARQ_WORKER

    def __init__(
        self, database_url: str, redis_url: str, pluggy_url: str, **environment: str
    ) -> None:
        super().__init__(**worker_settings(database_url, redis_url, pluggy_url) | environment)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self.child.wait_for_log(_started)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self


def _started(child: Child) -> list[dict[str, Any]] | None:
    return child.logged("worker_started") or None
