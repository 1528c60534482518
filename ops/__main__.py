"""The program `pluggy-sync`, and `python -m ops`: an interrupt is no traceback, at no moment."""

from __future__ import annotations

import sys
from typing import Final

INTERRUPTED: Final = 130


def run() -> None:
    """Load the command line and run it; loading takes long enough to be interrupted."""
    try:
        from ops.cli.main import main

        main(prog_name="pluggy-sync")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run()
