"""A large item is read page by page: the worker's memory does not grow with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.service_process import peak_memory_kb

MAX_KB = 200 * 1024
ROWS = 200_000


def worker_peaks(parent: int, found: dict[int, int], stop: threading.Event) -> None:
    """Watch the peak memory (kB) of all workers that descend from a process."""
    while not stop.wait(0.2):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (peak := worker_peak(entry, parent)):
                found[int(entry.name)] = max(found.get(int(entry.name), 0), peak)


def worker_peak(entry: Path, parent: int) -> int:
    try:
        command = (entry / "cmdline").read_bytes()
        if b"worker.main" not in command or not descends(int(entry.name), parent):
            return 0
        return peak_memory_kb(int(entry.name))
    except OSError:  # it has ended meanwhile
        return 0


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        pid = int(fields[1])
    return False


@pytest.mark.timeout(600)
def test_an_item_of_200_000_transactions_syncs_within_200_mb() -> None:
    command = [sys.executable, "-m", "ops", "demo", "--exit", "--json", "--items", "1"]
    command += ["--transactions", str(ROWS), "--workers", "1", "--rounds", "1"]
    peaks: dict[int, int] = {}
    stop = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ), text=True
    ) as demo:
        watch = threading.Thread(target=worker_peaks, args=(demo.pid, peaks, stop))
        watch.start()
        output = demo.communicate()[0]
        stop.set()
        watch.join()
    summary = json.loads(output.splitlines()[-1])
    assert demo.returncode == 0
    assert summary["transactions"] >= ROWS
    assert summary["mismatches"] == 0
    assert peaks
    assert max(peaks.values()) < MAX_KB, peaks
