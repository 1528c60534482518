"""The environment of the peers: requirements/bench.txt in build/bench, never in .venv."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = ROOT / "requirements" / "bench.txt"
HOME: Final = ROOT / "build" / "bench"
PYTHON: Final = HOME / "bin" / "python"
INSTALLED: Final = HOME / "installed.txt"
"""The requirements as they were installed."""
NAMED: Final = ("httpx", "psycopg", "pluggy-sdk", "dlt")


def missing() -> str | None:
    """Install what is not there yet; why it could not be, or None."""
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if INSTALLED.exists() and INSTALLED.read_text(encoding="utf-8") == wanted:
        return None
    pip = (str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    steps = (
        (sys.executable, "-m", "venv", "--clear", str(HOME)),
        (*pip, "--require-hashes", "-r", str(REQUIREMENTS)),
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    INSTALLED.write_text(wanted, encoding="utf-8")
    return None


def versions() -> dict[str, str]:
    """Of the peers' packages, as they are pinned."""
    pins = dict(
        line.split(" ", 1)[0].split("==", 1)
        for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    return {name: pins[name] for name in NAMED}
