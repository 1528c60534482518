"""A process of the service that a test can stop, pause, kill and listen to."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Self

from ops.demo.processes import Child, children, logged


def peak_memory_kb(pid: int) -> int:
    """Peak memory of a process in kB; 0 if it is just ending. Raises OSError."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def cpu_s(pid: int) -> float:
    """CPU that a process has used, in seconds. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class ServiceProcess:
    """`python -m` with an environment; its log lines are kept. Killed at the end."""

    arguments: ClassVar[Sequence[str]]

    def __init__(self, **environment: str) -> None:
        self.environment = environment
        self._child: Child | None = None
        self._opened = ExitStack()
        self._kept: list[str] = []

    async def __aenter__(self) -> Self:
        started = self._opened.enter_context(children())
        self._child = started.start(type(self).__name__, self.arguments, **self.environment)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        self._kept = self.lines
        self._opened.close()

    @property
    def child(self) -> Child:
        assert self._child is not None, "not started"
        return self._child

    @property
    def lines(self) -> list[str]:
        """Lines of its log so far, with line ends."""
        if self._child is None or not self._child.log.exists():
            return self._kept
        return [f"{line}\n" for line in self._child.lines()]

    def stop(self) -> None:
        """SIGTERM, as a deploy sends it."""
        self.child.send(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: the process stops with its connections and locks."""
        self.child.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.child.send(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.child.send(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> int:
        """Its exit status."""
        return await self.child.ended()

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of an event."""
        return logged(self.lines, event)
