"""API keys and connect tokens: signed JWTs that expire by the simulator's clock."""

import base64
import hashlib
import hmac
from typing import Any
from uuid import UUID

import msgspec

from simulator.clock import Clock
from simulator.http.errors import ApiError

CONNECT_TOKEN_S = 30 * 60
FULL, CONNECT = "full", "connect"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_HEADER = _text(b'{"alg":"HS256","typ":"JWT"}')


class Keys:
    """Issues and checks keys. A key is only valid in the process that issued it."""

    def __init__(
        self,
        clock: Clock,
        *,
        key_ttl_s: int,
        client_id: str | None,
        client_secret: str | None,
        describe_expired: bool,
    ) -> None:
        self._clock = clock
        self._ttl_s = key_ttl_s
        self._client_id = client_id
        self._client_secret = client_secret
        self._describe_expired = describe_expired
        self._issued: dict[str, tuple[int, str]] = {}
        self._number = 0
        self._secret = hashlib.sha256(f"{client_id}:{client_secret}".encode()).digest()

    def log_in(self, client_id: Any, client_secret: Any) -> str:
        if not self._known(client_id, client_secret):
            raise ApiError(401, "Client keys are invalid", "CLIENT_KEYS_UNAUTHORIZED")
        return self.issue(FULL, self._ttl_s, {"clientId": client_id})

    def _known(self, client_id: Any, client_secret: Any) -> bool:
        if not isinstance(client_secret, str) or not client_secret or not _is_uuid(client_id):
            return False
        wanted_id = self._client_id in (None, client_id)
        return wanted_id and self._client_secret in (None, client_secret)

    def issue(self, kind: str, ttl_s: int, claims: dict[str, Any]) -> str:
        issued_at = self._clock.now_ms() // 1000
        self._number += 1
        body = claims | {"iat": issued_at, "exp": issued_at + ttl_s, "jti": self._number}
        signed = f"{_HEADER}.{_text(msgspec.json.encode(body))}"
        mac = hmac.new(self._secret, signed.encode(), hashlib.sha256).digest()
        token = f"{signed}.{_text(mac)}"
        self._issued[token] = ((issued_at + ttl_s) * 1000, kind)
        return token

    def check(self, token: str | None) -> str:
        """The kind of a valid key; a missing, foreign or expired one is refused with 403."""
        expires_ms, kind = self._issued.get(token or "", (None, FULL))
        if expires_ms is not None and self._clock.now_ms() < expires_ms:
            return kind
        if expires_ms is not None and not self._describe_expired:
            raise ApiError(403, "Missing or invalid authorization token")
        raise ApiError(403, "Missing or invalid authorization token", "API_KEY_MISSING_OR_INVALID")

    def revoke_all(self) -> int:
        """Revoke every key issued so far."""
        count = len(self._issued)
        self._issued.clear()
        return count


def _is_uuid(value: Any) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True
