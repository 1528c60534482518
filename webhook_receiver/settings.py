"""What the receiver reads from the environment: no Pluggy credentials."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from worker.settings import Environment

SHORTEST_SECRET = 16


class ReceiverSettings(Environment):
    """The receiver's environment; it refuses to start without a secret."""

    webhook_secret: SecretStr
    webhook_secret_header: str = "X-Webhook-Secret"  # noqa: S105 - a header's name
    port: Annotated[int, Field(ge=0, le=65535)] = 8080

    @field_validator("webhook_secret")
    @classmethod
    def long_enough(cls, value: SecretStr) -> SecretStr:
        secrets = _split(value)
        if not secrets or any(len(secret) < SHORTEST_SECRET for secret in secrets):
            raise ValueError(
                f"WEBHOOK_SECRET: each secret has at least {SHORTEST_SECRET} characters"
            )
        return value

    @property
    def secrets(self) -> list[str]:
        """All secrets that are valid now: two while rotating."""
        return _split(self.webhook_secret)


def _split(value: SecretStr) -> list[str]:
    return [part.strip() for part in value.get_secret_value().split(",") if part.strip()]
