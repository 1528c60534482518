"""Settings of the ops process."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from worker.infra.settings import PluggyAccess, is_loopback

MIN_TOKEN_LENGTH: Final = 16
TOKEN: Final = re.compile(r"[\x21-\x7e]+")
"""What an Authorization header carries without loss."""


class OpsSettings(PluggyAccess):
    """Settings of the ops process; on another address than loopback it does not start without a
    token."""

    ops_host: str = "127.0.0.1"
    """The address that the ops process listens on; any other than loopback needs `OPS_TOKEN`."""
    ops_port: Annotated[int, Field(ge=0, le=65535)] = 8090
    """The port that the ops process listens on."""
    ops_token: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """The token that requests to the ops process carry (`Authorization: Bearer`), 16 visible ASCII
    characters at least; without it reading is open on loopback."""

    @field_validator("ops_token")
    @classmethod
    def guards(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        token = None if value is None else value.get_secret_value()
        if token is None and not is_loopback(info.data.get("ops_host", "")):
            raise ValueError("is needed, because OPS_HOST is not on loopback")
        if token is not None and (len(token) < MIN_TOKEN_LENGTH or not TOKEN.fullmatch(token)):
            raise ValueError(f"at least {MIN_TOKEN_LENGTH} visible ASCII characters, no spaces")
        return value

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the process."""
        return is_loopback(self.ops_host)
