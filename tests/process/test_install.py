"""The set-up of make: how far the installation of packages is."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from typing import Any

import pytest

import tests

INSTALL = Path(tests.__file__).parents[1] / "requirements" / "install.py"
OUTPUT = [
    "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment\n",
    "Collecting click==8.2 (from -r demo.txt (line 1))\n",
    "  Downloading click-8.2-py3-none-any.whl (1.9 MB)\n",
    "Requirement already satisfied: attrs==26.1 in ./.venv\n",
    "Processing ./files/rich-14.0-py3-none-any.whl\n",
    "Installing collected packages: click, rich\n",
]


@pytest.fixture
def install() -> dict[str, Any]:
    return runpy.run_path(str(INSTALL))


def test_each_package_that_pip_names_counts_as_fetched(
    install: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    long_ago = time.monotonic() - 3600
    assert install["show_progress"](OUTPUT, 5, long_ago) == OUTPUT
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("  1 of 5 fetched, about ")
    assert last == "  all fetched; writing them to disk"


def test_a_package_that_cannot_be_had_is_named_with_the_exit_status_of_pip(
    install: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.txt"
    missing.write_text(
        "nowhere @ file:///nowhere-1-py3-none-any.whl --hash=sha256:" + "0" * 64 + "\n"
    )
    assert install["main"](missing) != 0
    assert "nowhere" in capfd.readouterr().err
