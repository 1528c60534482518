"""Structured logging to stdout: one line per event, JSON or console; no bodies, no secrets."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str, log_format: str) -> None:
    """Set up structlog, and send the standard library's loggers the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
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
    # Per job and per request lines of the libraries say nothing that our closing lines do not.
    quiet = max(logging.WARNING, getattr(logging, level))
    logging.getLogger("aiohttp.access").setLevel(quiet)
    _take_over("arq.worker", handler, quiet)


def _take_over(name: str, handler: logging.Handler, level: int) -> None:
    """Send a logger's records our way, and nowhere else.

    arq's command line configures its loggers after our settings were read, which undoes levels and
    handlers but leaves filters alone.
    """

    def ours(record: logging.LogRecord) -> bool:
        if record.levelno >= level:
            handler.handle(record)
        return False

    logging.getLogger(name).addFilter(ours)
