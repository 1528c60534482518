"""The demo of one large item, with the peak memory of its workers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.service_process import peak_memory_kb


def demo_of_one_item(rows: int) -> tuple[dict[str, Any], int]:
    """The demo's report, and the peak (kB) of its worker. Raises RuntimeError if the demo fails."""
    command = [sys.executable, "-m", "ops", "demo", "--exit", "--json", "--items", "1"]
    command += ["--transactions", str(rows), "--workers", "1", "--rounds", "1"]
    peaks: dict[int, int] = {}
    stop = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as demo:
        watch = threading.Thread(target=_watch, args=(demo.pid, peaks, stop))
        watch.start()
        output = demo.communicate()[0]
        stop.set()
        watch.join()
    if demo.returncode or not peaks:
        raise RuntimeError(f"the demo ended with {demo.returncode}: {output}")
    return json.loads(output.splitlines()[-1]), max(peaks.values())


def _watch(parent: int, found: dict[int, int], stop: threading.Event) -> None:
    """Note the peak memory (kB) of all workers that descend from a process."""
    while not stop.wait(0.2):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (peak := _worker_peak(entry, parent)):
                found[int(entry.name)] = max(found.get(int(entry.name), 0), peak)


def _worker_peak(entry: Path, parent: int) -> int:
    try:
        command = (entry / "cmdline").read_bytes()
        if b"worker.main" not in command or not _descends(int(entry.name), parent):
            return 0
        return peak_memory_kb(int(entry.name))
    except OSError:  # it has ended meanwhile
        return 0


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        pid = int(fields[1])
    return False
