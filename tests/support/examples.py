"""How many examples hypothesis draws: few in `make test`, many where time matters less."""

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings

EXAMPLES: Final = int(os.environ.get("EXAMPLES", "0"))
"""By hand: EXAMPLES=5000, from other seeds each time."""
THOROUGH: Final = bool(os.environ.get("MUTANT") or os.environ.get("THOROUGH"))


def examples(usual: int, *, thorough: int) -> int:
    """`usual` in `make test`, `thorough` against planted faults and in `make test-extra`."""
    return EXAMPLES or (thorough if THOROUGH else usual)


def load_usual_settings() -> None:
    """Of every test that draws: the same examples in each run, however slow the machine is."""
    settings.register_profile(
        "usual",
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("usual")


def schedule_settings(usual: int, *, thorough: int) -> settings:
    """Of tests that draw schedules: any time, and a counterexample that can be pasted."""
    # A planted fault only has to be found, not shrunk.
    phases = (Phase.explicit, Phase.generate, Phase.shrink)[: 2 if os.environ.get("MUTANT") else 3]
    return settings(
        max_examples=examples(usual, thorough=thorough),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
