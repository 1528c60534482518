"""Fixed dates for tests of simulated worlds.

Worlds are drawn from a seed and the day, so a test may pass today and fail tomorrow. Tests that
depend on the day run at each of these moments, by the simulator's own clock.
"""

from datetime import datetime

# The clock's text, by the name that the test run shows.
MOMENTS = {
    "28 February": "2027-02-28T12:00:00Z",
    "29 February": "2028-02-29T12:00:00Z",
    "31 March": "2027-03-31T12:00:00Z",
    "31 December 23:59 UTC": "2026-12-31T23:59:00Z",
    "1 January UTC": "2027-01-01T00:00:00Z",
    "31 December 23:59 Sao Paulo": "2028-01-01T02:59:00Z",
    "1 January Sao Paulo": "2028-01-01T03:00:00Z",
    "first of a month, Monday": "2026-06-01T12:00:00Z",
    "last of a month, Saturday": "2026-10-31T12:00:00Z",
}
WEEKDAYS = {datetime.fromisoformat(text).weekday() for text in MOMENTS.values()}
