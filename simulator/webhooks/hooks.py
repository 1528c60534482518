"""Webhook subscriptions: which ones Pluggy accepts, and the store of them."""

import ipaddress
from random import Random
from typing import Any
from urllib.parse import urlsplit

from simulator.bank.history import new_id
from simulator.clock import Clock
from simulator.http.errors import ApiError, bad_request, not_found

# First the events of the data side, then those of payments.
_EVENTS = """
all item/all item/created item/updated item/error item/deleted item/waiting_user_input
item/waiting_user_action item/login_succeeded connector/status_updated
transactions/created transactions/updated transactions/deleted
payment_intent/created payment_intent/completed payment_intent/waiting_payer_authorization
payment_intent/error payment_request/updated boleto/updated
scheduled_payment/created scheduled_payment/completed scheduled_payment/error
scheduled_payment/canceled scheduled_payment/all_completed scheduled_payment/all_created
automatic_pix_payment/created automatic_pix_payment/completed automatic_pix_payment/error
automatic_pix_payment/canceled smart_transfer_preauthorization/completed
smart_transfer_preauthorization/error smart_transfer_payment/completed
smart_transfer_payment/error
"""
_KNOWN = frozenset(_EVENTS.split())
_PER_EVENT = 5
_RESERVED = (".localhost", ".local", ".internal")
Hook = dict[str, Any]


def check_url(url: Any, *, allow_loopback: bool) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or not parts.hostname or parts.scheme not in {"http", "https"}:
        raise bad_request("Webhook url must be valid URL address and not localhost")
    if allow_loopback and _is_loopback(parts.hostname):
        return
    if parts.scheme != "https":
        raise bad_request("Webhook url must be a https secured url")
    if _is_ip(parts.hostname):
        raise bad_request("Webhook url host can't be an IP address")
    if parts.hostname == "localhost" or parts.hostname.endswith(_RESERVED):
        raise bad_request("Webhook url host can't be localhost or a reserved/internal name")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def check_headers(headers: Any) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise bad_request("headers must be an object of strings")
    return dict(headers)


class Hooks:
    """Application-level subscriptions, oldest first."""

    def __init__(self, clock: Clock, random: Random, *, allow_loopback: bool) -> None:
        self._clock = clock
        self._random = random
        self._allow_loopback = allow_loopback
        self._hooks: dict[str, Hook] = {}

    def listed(self) -> list[Hook]:
        return list(self._hooks.values())

    def get(self, hook_id: str) -> Hook:
        hook = self._hooks.get(hook_id)
        if hook is None:
            raise not_found("webhook", "WEBHOOK_NOT_FOUND")
        return hook

    def wanting(self, event: str) -> list[Hook]:
        names = {"all", event, *({"item/all"} if event.startswith("item/") else ())}
        return [h for h in self._hooks.values() if h["event"] in names and h["disabledAt"] is None]

    def add(self, event: Any, url: Any, headers: Any) -> Hook:
        self._check(event, url, ignore=None)
        now = self._clock.now()
        hook = {
            "id": new_id(self._random),
            "event": event,
            "url": url,
            "headers": check_headers(headers),
            "disabledAt": None,
            "createdAt": now,
            "updatedAt": now,
        }
        self._hooks[hook["id"]] = hook
        return hook

    def change(self, hook_id: str, wanted: dict[str, Any]) -> Hook:
        hook = self.get(hook_id)
        event, url = wanted.get("event", hook["event"]), wanted.get("url", hook["url"])
        self._check(event, url, ignore=hook_id)
        hook |= {"event": event, "url": url, "updatedAt": self._clock.now()}
        if "headers" in wanted:
            hook["headers"] = check_headers(wanted["headers"])
        if wanted.get("enabled") is True:
            hook["disabledAt"] = None
        elif wanted.get("enabled") is False:
            self.disable(hook_id)
        return hook

    def disable(self, hook_id: str) -> None:
        if hook_id in self._hooks:
            self._hooks[hook_id]["disabledAt"] = self._clock.now()

    def remove(self, hook_id: str) -> None:
        self.get(hook_id)
        del self._hooks[hook_id]

    def _check(self, event: Any, url: Any, *, ignore: str | None) -> None:
        if event not in _KNOWN:
            raise bad_request(f"Invalid event type '{event}' for webhook")
        check_url(url, allow_loopback=self._allow_loopback)
        same = [h for h in self._hooks.values() if h["event"] == event and h["id"] != ignore]
        if any(hook["url"] == url for hook in same):
            raise ApiError(400, f"A webhook for event '{event}' and url '{url}' already exists.")
        if len(same) >= _PER_EVENT:
            raise ApiError(
                400, f"You have reached the maximum of {_PER_EVENT} webhooks for event '{event}'."
            )
