"""Prefix of our keys in Redis. Imports no library, so every program can use it."""

from typing import Final

PREFIX: Final = "pluggy_sync:"
