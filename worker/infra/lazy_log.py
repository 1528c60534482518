"""A log for modules that commands use too: structlog is imported with the first line written."""

from __future__ import annotations

import sys
from typing import Any


class LazyLog:
    """structlog's logger. A command, which configures none, logs to standard error, because its
    standard output is its answer."""

    def __getattr__(self, level: str) -> Any:
        import structlog

        if structlog.is_configured():
            return getattr(structlog.get_logger(), level)
        return getattr(structlog.wrap_logger(structlog.PrintLogger(sys.stderr)), level)
