"""How the guard sees processes where there is no /proc, tried where there is one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded import guard


@pytest.fixture(autouse=True)
def _ps() -> None:
    if not Path("/bin/ps").exists():
        pytest.fail("/bin/ps is missing: apt-get install procps")


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[bytes]"]:
    """A process with a child of its own; both end when its input does."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while len(guard.family(process.pid)) < 2:
            assert process.poll() is None
        yield process


def test_ps_and_proc_agree_on_a_family(parent: "subprocess.Popen[bytes]") -> None:
    # Neither listing is of one instant: only this family is compared.
    by_proc, by_ps = guard.processes_by_proc(), guard.processes_by_ps()
    for pid in [os.getpid(), *guard.family(parent.pid)]:
        assert by_ps[pid].parent == by_proc[pid].parent


def test_a_family_found_by_ps_is_killed_whole(
    parent: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    family = guard.family(parent.pid)
    monkeypatch.setattr(guard, "processes", guard.processes_by_ps)
    guard.kill_family(parent.pid)
    left = guard.processes_by_proc()
    assert not [pid for pid in family if pid in left and left[pid].state != "Z"]
