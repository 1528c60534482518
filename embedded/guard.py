"""Supervise one server and end it when its launcher is gone, even after a crash of the launcher.

A script started by path, with the standard library only. It stands between launcher and server
because a death signal set by the launcher would fire when the launching *thread* ends, and macOS
has no such signal. Its standard input is a pipe that only the launcher holds open: end of file
means that the launcher is gone. The server's output goes to standard error.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

PR_SET_PDEATHSIG = 1
# How long a server may take to end by itself once its launcher is gone.
GRACE_TIMEOUT_S = 1.0


class Process(NamedTuple):
    """A process by the kernel's table; state Z has ended and waits to be reaped."""

    parent: int
    state: str


def processes_by_proc() -> dict[int, Process]:
    """All processes, read from /proc."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # The name stands in parentheses and may hold anything, spaces and ")" included.
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = Process(parent=int(fields[1]), state=fields[0])
    return found


def processes_by_ps() -> dict[int, Process]:
    """All processes, read from ps: macOS has no /proc."""
    listing = subprocess.run(
        ["/bin/ps", "-A", "-o", "pid=,ppid=,stat="], check=True, capture_output=True, text=True
    )
    rows = (line.split(maxsplit=2) for line in listing.stdout.splitlines())
    return {int(pid): Process(int(parent), state[0]) for pid, parent, state in rows}


processes = processes_by_proc if sys.platform == "linux" else processes_by_ps


def family(pid: int) -> list[int]:
    """The process and all its descendants, oldest first."""
    known = processes()
    members = [pid] if pid in known else []
    for member in members:
        members += [child for child, process in known.items() if process.parent == member]
    return members


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists.

    Raises ValueError for what is no process: os.kill(0) and os.kill(-1) reach everybody around.
    """
    for pid in pids:
        if pid <= 0:
            raise ValueError(f"{pid} is no process id")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def await_states(pids: list[int], states: str) -> None:
    """Return when each process that still exists is in one of the states."""
    while True:
        known = processes()
        if all(known[pid].state in states for pid in pids if pid in known):
            return
        time.sleep(0.001)


def freeze_family(pid: int) -> list[int]:
    """Stop (SIGSTOP) a process and its descendants; returns them, oldest first.

    Postgres puts each child into a session of its own, so no process group covers them all.
    """
    signal_all([pid], signal.SIGSTOP)
    # A stopped process cannot fork, so the list is complete.
    await_states([pid], "TtZ")
    members = family(pid)
    signal_all(members, signal.SIGSTOP)
    await_states(members, "TtZ")
    return members


def kill_family(pid: int) -> None:
    """SIGKILL a process and its descendants; returns when all have ended."""
    members = freeze_family(pid)
    signal_all(members, signal.SIGKILL)
    await_states(members, "Z")


def become(uid: int, gid: int, end: signal.Signals, argv: list[str], guard: int) -> NoReturn:
    """Drop privileges and exec the server in this fork."""
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.closerange(3, 1024)
        os.umask(0o077)
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        if sys.platform == "linux":
            # After the change of user, which clears it.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, end)
        if os.getppid() == guard:
            os.execv(argv[0], argv)  # noqa: S606 - no shell, on purpose
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def ended_within(pid: int, seconds: float) -> bool:
    """Whether our child has ended, waiting for it so long."""
    deadline = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def watch(server: int, launcher: int, child_changed: int) -> tuple[int, bool]:
    """Wait until the server has ended (its status, True) or the launcher is gone (0, False)."""
    while True:
        readable, _, _ = select.select([0, child_changed], [], [], 1.0)
        if child_changed in readable:
            os.read(child_changed, 512)
        pid, status = os.waitpid(server, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), True
        # Another process may have inherited the pipe; then it never ends.
        if 0 in readable or os.getppid() != launcher:
            return 0, False


def main(launcher: int, uid: int, gid: int, end: signal.Signals, argv: list[str]) -> int:
    """Start the server, print its process id, and wait for its end or the launcher's."""
    child_changed, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    guard = os.getpid()
    server = os.fork()
    if server == 0:
        become(uid, gid, end, argv, guard)
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{server}\n".encode())
    status, ended = watch(server, launcher, child_changed)
    if not ended:
        signal_all([server], end)
        # A stopped server could not handle the signal.
        signal_all(family(server), signal.SIGCONT)
        if not ended_within(server, GRACE_TIMEOUT_S):
            kill_family(server)
    return status


if __name__ == "__main__":
    launcher, uid, gid, end = (int(number) for number in sys.argv[1:5])
    sys.exit(main(launcher, uid, gid, signal.Signals(end), sys.argv[5:]) & 0xFF)
