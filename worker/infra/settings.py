"""Settings of all processes: environment names, defaults and validation."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from worker.infra.postgres_hosts import check_url
from worker.infra.sql_files import ALWAYS
from worker.infra.sql_files import PRODUCTS as PRODUCTS


class SettingsError(Exception):
    """A setting is missing or invalid; the text names it."""


class SecretFiles(PydanticBaseSettingsSource):
    """Reads `NAME` from the file named by `NAME_FILE`, for mounted secrets."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if not path:
            return None, field_name, False
        try:
            # An empty file counts as not set.
            return Path(path).read_text(encoding="utf-8").strip() or None, field_name, False
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            raise SettingsError(f"{field_name.upper()}_FILE cannot be read: {why}") from None

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(f, name)[0] for name, f in self.current_state_fields()}
        return {name: value for name, value in found.items() if value is not None}

    def current_state_fields(self) -> list[tuple[str, FieldInfo]]:
        return list(self.settings_cls.model_fields.items())


class DatabaseSettings(BaseSettings):
    """Settings of every command. An empty value counts as not set; reprs hide secrets."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,
        defer_build=True,
    )

    database_url: SecretStr
    """Postgres, 15 or newer; also through PgBouncer in transaction mode; several hosts with commas,
    of which the one that takes writes is used."""
    database_direct_url: SecretStr | None = None
    """Postgres around the pooler, for `migrate`; none: the same as `DATABASE_URL`."""
    database_statement_cache: Annotated[int, Field(ge=0)] = 100
    """Prepared statements kept for each connection; 0 for a pooler that cannot carry them."""
    log_level: str = "INFO"
    """`DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`."""
    log_format: Literal["json", "console"] = "json"
    """`json`, or `console` for people."""

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def known_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_server(check_url, value, "Postgres")
        return value

    @field_validator("log_level")
    @classmethod
    def known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError("one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return value.upper()

    @property
    def direct_url(self) -> str:
        """URL for migrations, which bypass a connection pooler."""
        return (self.database_direct_url or self.database_url).get_secret_value()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)


class Environment(DatabaseSettings):
    """Settings of every process."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis 7.2 or newer, or Valkey."""

    @field_validator("redis_url")
    @classmethod
    def known_redis(cls, value: SecretStr) -> SecretStr:
        from redis.connection import parse_url

        _check_server(parse_url, value, "Redis")
        return value


class SyncSettings(Environment):
    """Products and rate limit: enough to estimate the duration of a sync without Pluggy."""

    pluggy_requests_per_minute: Annotated[int, Field(ge=12)] = 360
    """Pluggy's limit for each address and group of endpoints."""
    products: Annotated[tuple[str, ...], NoDecode] = PRODUCTS
    """Comma list of tables of schema `pluggy` ([data-model.md](data-model.md)): `items` and
    `accounts` (these two always), `transactions`, `bills` and so on; products that are not listed
    are neither fetched nor stored."""

    @field_validator("products", mode="before")
    @classmethod
    def known_products(cls, value: object) -> object:
        names = value.split(",") if isinstance(value, str) else value
        wanted = {str(name).strip() for name in names} if isinstance(names, list | tuple) else set()
        if unknown := wanted - set(PRODUCTS) - {""}:
            raise ValueError(
                f"{', '.join(sorted(unknown))} unknown; known are {', '.join(PRODUCTS)}"
            )
        return tuple(n for n in PRODUCTS if n in wanted or n in ALWAYS)


class PluggyAccess(SyncSettings):
    """Credentials and address of Pluggy, and its rate limit: enough to call it."""

    pluggy_client_id: Annotated[str, Field(min_length=1)]
    """Client id of the one application that this database mirrors."""
    pluggy_client_secret: SecretStr
    """Client secret of that application."""
    pluggy_base_url: str = "https://api.pluggy.ai"
    """Another only for a gateway, or a simulator on loopback."""

    @field_validator("pluggy_base_url")
    @classmethod
    def pluggy_url(cls, value: str) -> str:
        return _without_slash(value)


class PluggySettings(PluggyAccess):
    """Settings of workers and of commands that call Pluggy, never of the receiver."""

    posted_on_zone: str = "America/Sao_Paulo"
    """Decides the calendar day of rows with a time of day."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9464
    """`/livez`, `/readyz`, `/metrics`; the next free one if it is taken."""
    retention_days: Annotated[int, Field(ge=14, le=36500)] = 90
    """At least 14; how long settled events, runs and figures are kept."""
    purge_after_days: Annotated[int, Field(ge=0, le=36500)] = 30
    """From an item's deletion to the purge of its rows."""
    keep_ended: Annotated[int, Field(ge=0, le=1)] = 1
    """1: items that Pluggy deletes after withdrawing their connector are kept as ended, until
    `pluggy-sync items delete`; 0: they are purged like all others, also those that were kept before
    ([lgpd.md](lgpd.md#items-of-withdrawn-connectors))."""
    adopt_unknown_items: Annotated[int, Field(ge=0, le=1)] = 0
    """1: items that Pluggy's list has and that are not held are registered, at most 100 a day; 0:
    the worklist shows them. Only where Pluggy has enabled `GET /v2/items`."""
    worker_slots: Annotated[int, Field(ge=1, le=1000)] = 20
    """Items synced at once by one process."""
    webhook_url: str | None = None
    """The receiver's public address, ending in `/webhooks/pluggy` (a proxy may put a prefix before
    that); without it the subscription is not checked."""
    webhook_secret: SecretStr = SecretStr("")
    """The secret that deliveries carry, 16 characters at least; several with commas while it is
    rotated."""
    webhook_secret_header: str = "X-Webhook-Secret"  # noqa: S105 - a header's name
    """The header that carries it."""

    @field_validator("posted_on_zone")
    @classmethod
    def known_zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no name of a time zone") from error
        return value

    @field_validator("webhook_url")
    @classmethod
    def public_url(cls, value: str | None) -> str | None:
        return None if value is None else _without_slash(value)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """All currently valid secrets, for the subscription watch."""
        parts = self.webhook_secret.get_secret_value().split(",")
        return tuple(part.strip() for part in parts if part.strip())


def _check_server(read: Callable[[str], object], url: SecretStr, kind: str) -> None:
    try:
        read(url.get_secret_value())
    except ValueError:
        raise ValueError(f"cannot be read as the URL of a {kind} database") from None


def _without_slash(url: str) -> str:
    """Raises ValueError for a URL that would send secrets in the open."""
    in_the_open = url.startswith("http://") and not is_on_loopback(url)
    if in_the_open or not url.startswith(("http://", "https://")):
        raise ValueError("starts with https://, or with http:// on loopback")
    return url.rstrip("/")


def is_on_loopback(url: str) -> bool:
    """Whether a URL points to this machine, where the simulator may run."""
    return is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without a port, is this machine's own."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


SettingsT = TypeVar("SettingsT", bound=DatabaseSettings)


def load(settings: type[SettingsT], **given: object) -> SettingsT:
    """Read the environment. given: instead of what it says.

    Raises SettingsError: all faults on one line, without values.
    """
    try:
        return settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError("; ".join(_complaint(e) for e in error.errors())) from None


def _complaint(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    if error["type"] == "missing":
        return f"{name} is not set"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"
