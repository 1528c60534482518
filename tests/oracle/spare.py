"""A worker that waits, its imports done, until SIGUSR1 tells it to begin: then `arq` as ever."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Wait for the signal, then be `arq worker.main.WorkerSettings`."""
    # Blocked before the imports, so that a signal sent early is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    from arq.cli import cli

    import worker.main  # noqa: F401 - loaded now, so that starting takes no time later

    print("waiting", flush=True)
    signal.sigwait({signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    sys.argv = ["arq", "worker.main.WorkerSettings"]
    cli()


if __name__ == "__main__":
    main()
