"""How many examples hypothesis draws: few in `make test`, many where time matters less."""

import os
from typing import Final

EXAMPLES: Final = int(os.environ.get("EXAMPLES", "0"))
"""By hand: EXAMPLES=5000, from other seeds each time."""
THOROUGH: Final = bool(os.environ.get("MUTANT") or os.environ.get("THOROUGH"))


def examples(usual: int, *, thorough: int) -> int:
    """`usual` in `make test`, `thorough` against planted faults and in `make test-extra`."""
    return EXAMPLES or (thorough if THOROUGH else usual)
