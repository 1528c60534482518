"""Settings of the receiver. They hold no Pluggy credentials."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from webhook_receiver.origins import Network, Origins, parse_networks
from worker.infra.settings import Environment

MIN_SECRET_LENGTH: Final = 16
# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class ReceiverSettings(Environment):
    """Settings of the receiver; it does not start without a secret."""

    webhook_secret: SecretStr
    webhook_secret_header: str = "X-Webhook-Secret"  # noqa: S105 - a header's name
    webhook_allow_from: Annotated[tuple[Network, ...], NoDecode] = ()
    """Addresses and networks that may deliver, with commas; none: everywhere."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """Proxies whose `X-Forwarded-For` is believed, with commas."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port that the receiver listens on."""

    @field_validator("webhook_secret")
    @classmethod
    def long_enough(cls, value: SecretStr) -> SecretStr:
        secrets = _split(value)
        if not secrets or any(len(secret) < MIN_SECRET_LENGTH for secret in secrets):
            raise ValueError(f"each secret has at least {MIN_SECRET_LENGTH} characters")
        return value

    @field_validator("webhook_secret_header")
    @classmethod
    def header_name(cls, value: str) -> str:
        if not HEADER_NAME.fullmatch(value):
            raise ValueError("not the name of a header")
        return value

    @field_validator("webhook_allow_from", "trusted_proxies", mode="before")
    @classmethod
    def networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse_networks(value)
        except ValueError:
            raise ValueError("a comma list of addresses and networks, as 10.0.0.0/8") from None

    @property
    def secrets(self) -> list[str]:
        """All currently valid secrets: two during a rotation."""
        return _split(self.webhook_secret)

    @property
    def origins(self) -> Origins:
        """The allowed origins of deliveries."""
        return Origins(self.webhook_allow_from, self.trusted_proxies)


def _split(value: SecretStr) -> list[str]:
    return [part.strip() for part in value.get_secret_value().split(",") if part.strip()]
