"""What aiohttp's server logs, without the bytes that a sender sent: they may be a secret."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError


def server_log() -> logging.Logger:
    """The logger of aiohttp's server; requests that are no HTTP are told by their kind only."""
    logger = logging.getLogger("aiohttp.server")
    if _without_bytes not in logger.filters:
        logger.addFilter(_without_bytes)
    return logger


def _without_bytes(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        # aiohttp quotes the line that it could not read. Nothing of ours has failed; nor where what
        # is left of a body that was refused cannot be unpacked.
        record.msg, record.args = f"bad request: {type(error).__name__}", ()
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True
