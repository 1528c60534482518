"""API keys and connect tokens: signed JWTs that expire by the simulator's clock."""

import base64
import hashlib
import hmac
from typing import Any

import msgspec

from simulator.bank.history import is_uuid
from simulator.clock import Clock
from simulator.http.errors import ApiError
from simulator.options import Options

CONNECT_TOKEN_S = 30 * 60
FULL, CONNECT = "full", "connect"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_HEADER = _text(b'{"alg":"HS256","typ":"JWT"}')


class Keys:
    """Issues and checks keys. A key is only valid in the process that issued it."""

    def __init__(self, clock: Clock, options: Options) -> None:
        self._clock = clock
        self._options = options
        self._issued: dict[str, tuple[int, str]] = {}
        self._number = 0
        known = f"{options.client_id}:{options.client_secret}"
        self._secret = hashlib.sha256(known.encode()).digest()

    def log_in(self, client_id: Any, client_secret: Any) -> str:
        if not self._known(client_id, client_secret):
            raise ApiError(401, "Client keys are invalid", "CLIENT_KEYS_UNAUTHORIZED")
        return self.issue(FULL, self._options.key_ttl_s, {"clientId": client_id})

    def _known(self, client_id: Any, client_secret: Any) -> bool:
        if not isinstance(client_secret, str) or not client_secret or not is_uuid(client_id):
            return False
        wanted_id = self._options.client_id in (None, client_id)
        return wanted_id and self._options.client_secret in (None, client_secret)

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
        if expires_ms is not None and not self._options.describe_expired:
            raise ApiError(403, "Missing or invalid authorization token")
        raise ApiError(403, "Missing or invalid authorization token", "API_KEY_MISSING_OR_INVALID")

    def revoke_all(self) -> int:
        """Revoke every key issued so far."""
        count = len(self._issued)
        self._issued.clear()
        return count
