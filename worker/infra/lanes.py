"""Lanes: the priority classes of work, in the queue of items and at Pluggy's rate limit."""

from enum import IntEnum


class Lane(IntEnum):
    """Which work goes first."""

    LIVE = 0
    RETRY = 1
    BACKFILL = 2
    AUDIT = 3
