"""Under which names our keys stand in Redis; free of libraries, so that anybody may import it."""

from typing import Final

PREFIX: Final = "pluggy_sync:"
