"""Start what has ended again, with back-off, until it ends too often; stop everything in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

POLL_INTERVAL_S: Final = 0.1


class UnitFailed(Exception):
    """A unit did not start; the text is for the person at the terminal."""


class GaveUp(Exception):
    """A unit keeps ending; the text has its last lines."""


class Unit(Protocol):
    """A process, or a server with its processes."""

    @property
    def name(self) -> str: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None:
        """Start it, also again. Raises UnitFailed."""

    def terminate(self) -> None:
        """Ask it to end."""

    def finish(self, notify: Callable[[str], None]) -> None:
        """Wait until it has ended, and kill it if that takes too long.

        notify: takes what is waited for, once it takes longer than a moment.
        """

    def kill(self) -> None:
        """End it at once."""

    def end(self) -> str:
        """How it has ended, such as ` by SIGKILL` and ` with exit status 1`; empty: not known."""

    def tail(self) -> str:
        """Its last lines, to be shown to a person."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How soon a unit is started again, and how often before it is given up; in seconds."""

    first_pause_s: float = 1.0
    max_pause_s: float = 30.0
    short_run_s: float = 60.0
    max_short_runs: int = 5
    calm_run_s: float = 600.0


@dataclass(slots=True)
class Restarts:
    """The runs of one unit: pauses double from end to end until it has run for long."""

    patience: Patience
    ends: int = 0
    short_runs: int = 0

    def pause_after(self, ran_s: float) -> float | None:
        """Seconds until the next start, or None if it keeps ending. ran_s: how long it ran."""
        self.short_runs = self.short_runs + 1 if ran_s < self.patience.short_run_s else 0
        self.ends = self.ends + 1 if ran_s < self.patience.calm_run_s else 1
        if self.short_runs >= self.patience.max_short_runs:
            return None
        return min(self.patience.max_pause_s, self.patience.first_pause_s * 2.0 ** (self.ends - 1))


@dataclass(slots=True)
class Supervised:
    """A unit that has been started; due_at: when it is started again, if it has ended."""

    unit: Unit
    restarts: Restarts
    notify: Callable[[str], None]
    started_at: float = field(default_factory=time.monotonic)
    due_at: float | None = None

    def tend(self, now: float) -> None:
        """Notice that it has ended, or start it again. Raises GaveUp."""
        if self.due_at is None:
            if not self.unit.running:
                how = self.unit.end()
                self._ended(now, f"{self.unit.name} has ended{how}", f", last{how}" if how else "")
        elif now >= self.due_at:
            self._start_again(now)

    def _start_again(self, now: float) -> None:
        self.started_at, self.due_at = now, None
        try:
            self.unit.start()
        except UnitFailed as error:
            self._ended(now, str(error))

    def _ended(self, now: float, why: str, last: str = "") -> None:
        pause_s = self.restarts.pause_after(now - self.started_at)
        if pause_s is None:
            raise GaveUp(f"{self.unit.name} keeps ending{last}:\n{self.unit.tail() or why}")
        self.due_at = now + pause_s
        self.notify(f"{why}; started again in {pause_s:g} s")


@dataclass(slots=True)
class Supervisor:
    """Units in groups, which are stopped one after the other, the last started first."""

    notify: Callable[[str], None]
    patience: Patience = field(default_factory=Patience)
    groups: list[Sequence[Supervised]] = field(default_factory=list)

    def start(self, *units: Unit) -> None:
        """Start a group of units. Raises UnitFailed; those that run are stopped with the rest."""
        group: list[Supervised] = []
        self.groups.append(group)
        for unit in units:
            self.notify(f"starting {unit.name}")
            unit.start()
            group.append(Supervised(unit, Restarts(self.patience), self.notify))

    def watch(self) -> NoReturn:
        """Keep all units running until a signal interrupts it. Raises GaveUp."""
        while True:
            time.sleep(POLL_INTERVAL_S)
            for group in self.groups:
                for each in group:
                    each.tend(time.monotonic())

    def stop(self) -> None:
        """End the groups in order, the units of a group together. Interrupted: kill() follows."""
        while self.groups:
            for each in self.groups[-1]:
                if each.unit.running:
                    self.notify(f"stopping {each.unit.name}")
                    each.unit.terminate()
            for each in self.groups[-1]:
                each.unit.finish(self.notify)
            self.groups.pop()

    def kill(self) -> None:
        """End everything at once."""
        while self.groups:
            for each in self.groups.pop():
                with suppress(UnitFailed):
                    each.unit.kill()
