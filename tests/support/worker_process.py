"""The worker as a real process that tests can stop, wake and kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.interleaving import until
from tests.support.stack import CLIENT_ID, CLIENT_SECRET

ENDS_WITHIN_S = 60


def peak_memory_kb(pid: int) -> int:
    """The most memory that a process has ever had; 0 if it ends just now. Raises OSError."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


class WorkerProcess:
    """`arq worker.main.WorkerSettings` with an environment; its log lines are kept."""

    def __init__(
        self, database_url: str, redis_url: str, pluggy_url: str, **environment: str
    ) -> None:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
        self._environment = kept | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "PLUGGY_BASE_URL": pluggy_url,
            "PLUGGY_CLIENT_ID": CLIENT_ID,
            "PLUGGY_CLIENT_SECRET": CLIENT_SECRET,
            "PLUGGY_REQUESTS_PER_MINUTE": "60000",
            "LOG_FORMAT": "json",
        }
        self._environment |= environment
        self._child: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.lines: list[str] = []

    async def __aenter__(self) -> Self:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "arq", "worker.main.WorkerSettings"),
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit=2**24,
        )
        self._reading = asyncio.create_task(self._read())
        await until(self._started, "the worker starts")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.child.returncode is None:
            self.child.kill()
        await self.ended()

    @property
    def child(self) -> asyncio.subprocess.Process:
        assert self._child is not None
        return self._child

    def stop(self) -> None:
        """SIGTERM, as a deploy sends it."""
        self.child.send_signal(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it stands still with all that it holds."""
        self.child.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self.child.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.child.kill()
        await self.ended()

    async def ended(self) -> int:
        """Its exit status, once all its lines are read."""
        assert self._reading is not None
        async with asyncio.timeout(ENDS_WITHIN_S):
            await self._reading
            return await self.child.wait()

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of an event."""
        found = [json.loads(line) for line in self.lines if f'"{event}"' in line]
        return [line for line in found if line.get("event") == event]

    async def _started(self) -> bool:
        assert self.child.returncode is None, f"the worker ended: {''.join(self.lines)}"
        return bool(self.said("worker_started"))

    async def _read(self) -> None:
        assert self.child.stdout is not None
        while line := await self.child.stdout.readline():
            self.lines.append(line.decode())
