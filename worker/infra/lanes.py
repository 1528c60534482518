"""Lanes: the priority classes of work, in the queue of items and at Pluggy's rate limit."""

from enum import IntEnum


class Lane(IntEnum):
    """Priority of work; lower values go first."""

    LIVE = 0
    RETRY = 1
    BACKFILL = 2
    AUDIT = 3
