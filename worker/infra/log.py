"""Structured logging to stdout: one line per event, JSON or console; no bodies, no secrets."""

from __future__ import annotations

import logging
import os
import sys

import structlog


def configure(level: str, log_format: str) -> None:
    """Configure structlog, and route the standard library's loggers through it."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=not os.environ.get("NO_COLOR"))
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # The libraries' lines per job and per request repeat our own.
    quiet = max(logging.WARNING, getattr(logging, level))
    logging.getLogger("aiohttp.access").setLevel(quiet)
    _take_over("arq.worker", handler, quiet)


def _take_over(name: str, handler: logging.Handler, level: int) -> None:
    """Route a logger's records to our handler only.

    arq's command line configures its loggers after our settings are read. That resets levels and
    handlers, but not filters.
    """

    def ours(record: logging.LogRecord) -> bool:
        if record.levelno >= level:
            handler.handle(record)
        return False

    logging.getLogger(name).addFilter(ours)
