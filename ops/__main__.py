"""The program `pluggy-sync`, also `python -m ops`: Ctrl-C ends it without a traceback."""

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
