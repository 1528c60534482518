"""The environment: every name, its default, and the message when it is wrong."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.settings_page import written
from webhook_receiver.settings import ReceiverSettings
from worker.infra.settings import (
    PRODUCTS,
    Environment,
    PluggySettings,
    SettingsError,
    is_on_loopback,
    load,
)

DATABASE = "postgresql://somebody:hunter2hunter2@db/pluggy"
SECRET = "0123456789abcdef"  # noqa: S105 - of the tests


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing but what a process of ours cannot do without."""
    for name in list(os.environ):
        if name.upper() in names() or name.upper().endswith("_FILE"):
            monkeypatch.delenv(name)
    for name, value in {
        "DATABASE_URL": DATABASE,
        "PLUGGY_CLIENT_ID": "an-id",
        "PLUGGY_CLIENT_SECRET": SECRET,
        "WEBHOOK_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def names() -> set[str]:
    fields = PluggySettings.model_fields | ReceiverSettings.model_fields
    return {name.upper() for name in fields}


def complaint(settings: type[Environment]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(settings)
    return str(caught.value)


def test_the_worker_s_defaults_are_those_of_the_contract() -> None:
    settings = load(PluggySettings)
    assert settings.pluggy_base_url == "https://api.pluggy.ai"
    assert settings.products == PRODUCTS
    assert settings.posted_on_zone == "America/Sao_Paulo"
    assert settings.metrics_port == 9464
    assert (settings.log_level, settings.log_format) == ("INFO", "json")
    assert settings.direct_url == DATABASE
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"


def test_the_receiver_s_defaults_are_those_of_the_contract() -> None:
    settings = load(ReceiverSettings)
    assert (settings.port, settings.webhook_secret_header) == (8080, "X-Webhook-Secret")
    assert (settings.webhook_allow_from, settings.trusted_proxies) == ((), ())
    assert settings.secrets == [SECRET]


def test_the_receiver_knows_no_pluggy_credentials() -> None:
    assert not [name for name in ReceiverSettings.model_fields if name.startswith("pluggy")]


@pytest.mark.parametrize("empty", ["", None])
def test_what_is_empty_or_missing_is_named(
    environment: pytest.MonkeyPatch, empty: str | None
) -> None:
    for name in ("DATABASE_URL", "PLUGGY_CLIENT_ID", "PLUGGY_CLIENT_SECRET"):
        environment.delenv(name) if empty is None else environment.setenv(name, empty)
    said = complaint(PluggySettings)
    assert said == (
        "DATABASE_URL is not set; PLUGGY_CLIENT_ID is not set; PLUGGY_CLIENT_SECRET is not set"
    )


def test_an_empty_value_leaves_the_default(environment: pytest.MonkeyPatch) -> None:
    for name in ("LOG_LEVEL", "PRODUCTS", "METRICS_PORT", "REDIS_URL", "DATABASE_DIRECT_URL"):
        environment.setenv(name, "")
    settings = load(PluggySettings)
    assert (settings.log_level, settings.metrics_port) == ("INFO", 9464)
    assert (settings.products, settings.direct_url) == (PRODUCTS, DATABASE)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL: one of DEBUG, INFO"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: "),
        ("DATABASE_STATEMENT_CACHE", "-1", "DATABASE_STATEMENT_CACHE: "),
        ("DATABASE_URL", "db.example/pluggy", "DATABASE_URL: cannot be read as the URL of a Po"),
        ("DATABASE_URL", "mysql://db/pluggy", "DATABASE_URL: cannot be read as the URL of a Po"),
        ("DATABASE_URL", "postgresql://a:b#c@db/x", "DATABASE_URL: cannot be read"),
        ("DATABASE_DIRECT_URL", "db", "DATABASE_DIRECT_URL: cannot be read as the URL of a Po"),
        ("REDIS_URL", "cache:6379", "REDIS_URL: cannot be read as the URL of a Redis database"),
        ("REDIS_URL", "redis://cache:port/0", "REDIS_URL: cannot be read"),
        ("REDIS_URL", "redis://[cache/0", "REDIS_URL: cannot be read"),
        ("REDIS_URL", "redis://cache/0?socket_timeout=soon", "REDIS_URL: cannot be read"),
        ("PRODUCTS", "transactions,lottery,stamps", "PRODUCTS: lottery, stamps unknown; known"),
        ("POSTED_ON_ZONE", "Mars/Olympus", "POSTED_ON_ZONE: 'Mars/Olympus' is no name"),
        ("POSTED_ON_ZONE", "../../etc/passwd", "POSTED_ON_ZONE: "),
        ("POSTED_ON_ZONE", "America", "POSTED_ON_ZONE: "),
        ("PLUGGY_BASE_URL", "api.pluggy.ai", "PLUGGY_BASE_URL: starts with https://"),
        ("PLUGGY_BASE_URL", "http://api.pluggy.ai", "PLUGGY_BASE_URL: starts with https://"),
        ("PLUGGY_BASE_URL", "ftp://127.0.0.1", "PLUGGY_BASE_URL: starts with https://"),
        ("PLUGGY_BASE_URL", "http://[", "PLUGGY_BASE_URL: "),
        ("METRICS_PORT", "65536", "METRICS_PORT: "),
        ("METRICS_PORT", "http", "METRICS_PORT: "),
        ("WORKER_SLOTS", "0", "WORKER_SLOTS: "),
        ("PLUGGY_REQUESTS_PER_MINUTE", "1", "PLUGGY_REQUESTS_PER_MINUTE: "),
    ],
)
def test_a_wrong_value_is_reported_with_its_name(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    environment.setenv(name, value)
    assert complaint(PluggySettings).startswith(said)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://one@/pluggy?host=/var/run/postgresql&port=5433"),
        ("DATABASE_URL", "postgresql://one:two@a.example:5432,b.example:5433/pluggy"),
        ("DATABASE_DIRECT_URL", "postgresql://one@[::1]:5432/pluggy?sslmode=verify-full"),
        ("REDIS_URL", "unix:///run/redis.sock?db=3"),
        ("REDIS_URL", "rediss://:secret@cache.example:6380/0"),
    ],
)
def test_every_form_of_a_server_s_url_is_taken(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    stored = getattr(load(PluggySettings), name.lower())
    assert stored.get_secret_value() == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://somebody:hunter2@db/pluggy"),
        ("REDIS_URL", "http://somebody:hunter2@cache"),
        ("WEBHOOK_SECRET", "too-short-a-word"[:15]),
        ("WEBHOOK_SECRET", f"{SECRET},too-short"),
        ("WEBHOOK_SECRET", ","),
        ("WEBHOOK_SECRET_HEADER", "X Webhook"),
        ("WEBHOOK_SECRET_HEADER", "X-Webhook:"),
        ("WEBHOOK_ALLOW_FROM", "52.67.145.81, pluggy.ai"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("PORT", "-1"),
    ],
)
def test_a_wrong_value_of_the_receiver_is_reported_without_the_value(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    said = complaint(ReceiverSettings)
    assert said.startswith(f"{name}: ")
    assert value not in said.removeprefix(f"{name}: ") or len(value) < 3


def test_all_complaints_stand_on_one_line(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PORT", "x")
    environment.setenv("LOG_LEVEL", "x")
    environment.delenv("DATABASE_URL")
    said = complaint(ReceiverSettings)
    assert "\n" not in said
    assert all(name in said for name in ("PORT: ", "LOG_LEVEL: ", "DATABASE_URL is not set"))


def test_secrets_are_split_while_rotating(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("WEBHOOK_SECRET", f" {SECRET} , {SECRET[::-1]},")
    assert load(ReceiverSettings).secrets == [SECRET, SECRET[::-1]]


def test_networks_are_read_as_addresses_and_networks(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("WEBHOOK_ALLOW_FROM", "52.67.145.81, 2001:db8::/32")
    environment.setenv("TRUSTED_PROXIES", "10.0.0.0/8")
    settings = load(ReceiverSettings)
    assert settings.webhook_allow_from == (
        ip_network("52.67.145.81/32"),
        ip_network("2001:db8::/32"),
    )
    assert settings.origins.proxies == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize("name", ["DATABASE_URL", "PLUGGY_CLIENT_SECRET", "PLUGGY_CLIENT_ID"])
def test_any_value_can_come_from_a_file(
    environment: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "value").write_text("postgresql://from-a-file\n", encoding="utf-8")
    environment.setenv(name, "")
    environment.setenv(f"{name}_FILE", str(tmp_path / "value"))
    stored: Any = getattr(load(PluggySettings), name.lower())
    assert getattr(stored, "get_secret_value", lambda: stored)() == "postgresql://from-a-file"


def test_a_value_goes_before_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "value").write_text("postgresql://from-a-file", encoding="utf-8")
    environment.setenv("DATABASE_URL_FILE", str(tmp_path / "value"))
    assert load(PluggySettings).database_url.get_secret_value() == DATABASE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "WEBHOOK_SECRET_FILE cannot be read: No such file or directory"),
        (b"\xff\xfe secret", "WEBHOOK_SECRET_FILE cannot be read: not UTF-8"),
        (b"\n", "WEBHOOK_SECRET is not set"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "value").write_bytes(content)
    environment.delenv("WEBHOOK_SECRET")
    environment.setenv("WEBHOOK_SECRET_FILE", str(tmp_path / "value"))
    assert complaint(ReceiverSettings) == said


def test_items_and_accounts_are_always_mirrored(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PRODUCTS", " transactions ,")
    assert load(PluggySettings).products == ("items", "accounts", "transactions")


def test_secrets_stand_in_no_repr() -> None:
    for settings in (load(PluggySettings), load(ReceiverSettings)):
        shown = f"{settings!r} {settings} {settings.model_dump()}"
        assert "hunter2" not in shown
        assert SECRET not in shown


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(PluggySettings).log_level = "DEBUG"


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9:80/x", True),
        ("http://[::1]:3", True),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://user@192.0.2.1", False),
        ("http://", False),
    ],
)
def test_loopback_is_this_machine_only(url: str, loopback: bool) -> None:
    assert is_on_loopback(url) is loopback


def test_the_page_of_settings_is_written_from_the_classes() -> None:
    found, expected = written()
    assert found == expected, "run: python -m tests.support.settings_page"
