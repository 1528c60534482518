"""Under which names our keys stand in Redis; no library behind it, so that anybody may import it."""

from typing import Final

PREFIX: Final = "pluggy_sync:"
