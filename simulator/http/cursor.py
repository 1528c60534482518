"""The page token of /v2 listings: base64 of "<date>|<id>", the last row of the page before."""

import base64
import binascii
from collections.abc import Iterable
from urllib.parse import urlencode

from simulator.clock import iso, parse_iso
from simulator.http.errors import bad_request


def write_cursor(date_ms: int, row_id: str) -> str:
    return base64.b64encode(f"{iso(date_ms)}|{row_id}".encode()).decode()


def read_cursor(text: str) -> tuple[int, str]:
    """The listing key behind which the page starts."""
    try:
        date, _, row_id = base64.b64decode(text, validate=True).decode().partition("|")
        return (-parse_iso(date), row_id)
    except (ValueError, binascii.Error) as error:
        raise bad_request("Invalid cursor") from error


def next_query(query: Iterable[tuple[str, str]], cursor: str) -> str:
    """A ready query string: the filters of this call and the cursor."""
    return "?" + urlencode([*(pair for pair in query if pair[0] != "after"), ("after", cursor)])
