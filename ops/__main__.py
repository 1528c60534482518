"""The program `pluggy-sync`, also `python -m ops`: Ctrl-C ends it without a traceback."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT
OBJECTS_OF_IMPORTS: Final = 50_000
"""Nearly all that is made while modules load lives to the end: to look for garbage among it takes a
tenth of the start."""


def run() -> None:
    """Load the command line and run it; loading takes long enough to be interrupted."""
    _open_missing_streams()
    # Where a shell has us ignore it, in the background, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    gc.set_threshold(OBJECTS_OF_IMPORTS)
    from ops.cli.main import main
    from worker.infra.lazy_log import LazyLog

    LazyLog.to_stderr = True
    main(prog_name="pluggy-sync")


def _end(_: int, __: FrameType | None) -> None:
    """End as SIGTERM does, whatever is under way: no command holds what the next one would miss,
    and a server that does not answer would hold up an orderly end. `up`, `demo` and `ops` stop what
    they have started by handlers of their own."""
    os._exit(INTERRUPTED)


def _open_missing_streams() -> None:
    """Give a program that is started without an input or output an empty one.

    Before anything is opened, so that no file and no connection becomes what is printed to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - kept


if __name__ == "__main__":
    run()
