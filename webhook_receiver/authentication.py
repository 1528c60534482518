"""Authenticate deliveries by a shared secret, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


class Authenticator:
    """The currently valid secrets. Every call compares all of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._digests = [_digest(secret) for secret in secrets]

    def accepts(self, presented: str | None) -> bool:
        """Whether a presented secret is valid; takes the same time for every wrong one."""
        digest = _digest(presented or "")
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return presented is not None and any(matches)


def _digest(secret: str) -> bytes:
    # Digests have equal length, so the comparison does not leak the length of a secret.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
