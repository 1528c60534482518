"""Authenticate deliveries by a shared secret, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


class Authenticator:
    """Knows the secrets that are valid now. Every secret is compared on every call."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._digests = [_digest(secret) for secret in secrets]

    def accepts(self, presented: str | None) -> bool:
        """Whether a presented secret is one of ours; takes as long for any wrong one."""
        digest = _digest(presented or "")
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return presented is not None and any(matches)


def _digest(secret: str) -> bytes:
    # Of equal length, so that the comparison does not tell the length of a secret.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
