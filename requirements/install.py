"""Install pinned requirements into this environment, and say how far it is and how long it takes.

Run by the Makefile: `python requirements/install.py demo.txt`. Ends with pip's own exit status.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

EVERY_S = 2.0
"""A line at most so often: the output of a build server is a file."""
SHOWN_LINES = 20
DONE_WITH = ("Collecting ", "Processing ", "Requirement already satisfied", "Ignoring ")
"""How pip begins its line about a package of the file; it ignores those of other systems."""


def main(path: Path) -> int:
    """Install the requirements of a file; returns pip's exit status."""
    total = sum(line[0].isalnum() for line in path.read_text().splitlines() if line)
    print(f"installing {total} packages for {path.stem} into .venv", flush=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar=off", "--require-hashes", "--requirement", str(path)]
    with subprocess.Popen(  # noqa: S603 - this interpreter's own pip
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - it is a pipe
        lines = show_progress(pip.stdout, total, started)
    if pip.returncode:
        print(*lines[-SHOWN_LINES:], sep="", end="", file=sys.stderr)
    else:
        print(f"installed in {time.monotonic() - started:.0f} s", flush=True)
    return pip.returncode


def show_progress(lines: Iterable[str], total: int, started: float) -> list[str]:
    """Print how many packages are fetched, with the time that is left; returns all lines."""
    seen, fetched, shown_at = list[str](), 0, started
    for line in lines:
        seen.append(line)
        fetched += line.startswith(DONE_WITH)
        now = time.monotonic()
        if line.startswith("Installing collected"):
            print("  all fetched; writing them to disk", flush=True)
        elif 0 < fetched < total and now - shown_at >= EVERY_S:
            shown_at, left_s = now, (now - started) / fetched * max(total - fetched, 0)
            print(f"  {fetched} of {total} fetched, about {left_s:.0f} s left", flush=True)
    return seen


if __name__ == "__main__":
    sys.exit(main(Path(__file__).with_name(sys.argv[1])))
