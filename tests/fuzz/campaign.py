"""Runs a check over many inputs, and keeps the one that breaks it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

KEPT_IN: Final = Path("build") / "fuzz"
SEED: Final = int(os.environ.get("FUZZ_SEED") or 2026)
"""The same inputs for everybody; FUZZ_SEED=$RANDOM draws others. It is printed."""


class Broken(AssertionError):
    """An input that something does not stand; the text says where it is kept."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Inputs of one kind, numbered: input n of a seed is the same for ever."""

    name: str
    make: Callable[[Random], bytes]

    def input(self, number: int) -> bytes:
        return self.make(Random(f"{SEED} {self.name} {number}"))  # noqa: S311 - repeatable, no secret

    def run(self, count: int, check: Callable[[bytes], None]) -> None:
        """Raises Broken with the first input whose check fails, whatever it raises."""
        print(f"fuzz {self.name}: {count:,} inputs, FUZZ_SEED={SEED}", flush=True)
        for number in range(count):
            body = self.input(number)
            try:
                check(body)
            except Exception as error:
                raise self.broken(number, body, error) from error

    def broken(self, number: int, body: bytes, error: object) -> Broken:
        """Keep the input and say so."""
        KEPT_IN.mkdir(parents=True, exist_ok=True)
        path = KEPT_IN / f"{self.name}-{SEED}-{number}"
        path.write_bytes(body)
        return Broken(f"{self.name} {number} of FUZZ_SEED={SEED}, kept in {path}: {error!r}")
