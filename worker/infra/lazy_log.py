"""A log for modules that commands use too: structlog is imported with the first line written."""

from __future__ import annotations

import sys
from typing import Any, ClassVar


class LazyLog:
    """structlog's logger."""

    to_stderr: ClassVar[bool] = False
    """In a command, whose standard output is its answer; not once structlog is configured."""

    def __getattr__(self, level: str) -> Any:
        import structlog

        if self.to_stderr and not structlog.is_configured():
            return getattr(structlog.wrap_logger(structlog.PrintLogger(sys.stderr)), level)
        return getattr(structlog.get_logger(), level)
