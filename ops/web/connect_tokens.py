"""POST /v1/connect-tokens: a token for Pluggy's Connect widget, made with our own key.

Source: https://docs.pluggy.ai/reference/connect-token-create. Pluggy ignores options outside of
`options`. No webhookUrl is given: an item's own webhook carries no header, and a secret in its URL
would reach the browser, which may read the item. The webhooks of the application tell of the item.
"""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web
from prometheus_client import Counter

from ops.web.responses import Refused, answer, read_document, unavailable
from ops.web.services import OpsServices, services_of
from worker.infra.lanes import Lane
from worker.infra.parsing import clean_text
from worker.maintenance.installation import ForeignInstallation
from worker.pluggy_api.errors import (
    Deferred,
    PluggyError,
    PluggyHalt,
    PluggyNotFound,
    PluggyRejected,
    classify,
)
from worker.pluggy_api.http import Change
from worker.pluggy_api.payloads import Unreadable, decode_object

log = structlog.get_logger()

TOKENS: Final = Counter("pluggy_sync_connect_tokens", "Connect tokens, by outcome", ["outcome"])

UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Url = Annotated[str, msgspec.Meta(max_length=2000)]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of a request. client_user_id is personal: it is never logged."""

    client_user_id: Name
    item_id: uuid.UUID | None = None
    avoid_duplicates: bool | None = None
    oauth_redirect_uri: Url | None = None

    def body(self) -> dict[str, Any]:
        """The same for Pluggy."""
        options = {
            "clientUserId": clean_text(self.client_user_id),
            "avoidDuplicates": self.avoid_duplicates,
            "oauthRedirectUri": self.oauth_redirect_uri,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return ({"itemId": str(self.item_id)} if self.item_id else {}) | {"options": given}


async def create(request: web.Request) -> web.Response:
    """POST /v1/connect-tokens: 201 with the token, 400, 404, 429, 502, 503."""
    asked = _asked(await read_document(request))
    token = await make_token(services_of(request), asked)
    return answer({"accessToken": token}, 201)


async def make_token(services: OpsServices, asked: Asked) -> str:
    """Have Pluggy make a connect token. Raises Refused."""
    try:
        await services.ask(services.installation.check)
        reply = await services.client.call(
            "/connect_token",
            lane=Lane.LIVE,
            count=lambda: None,
            change=Change("POST", asked.body()),
        )
        token = decode_object(reply.body).get("accessToken")
    except ForeignInstallation as error:
        log.error("foreign_installation")
        detail = "the database mirrors another Pluggy application than this process has keys for"
        raise unavailable("foreign_installation", detail) from error
    except Unreadable:
        token = None
    except PluggyError as error:
        TOKENS.labels(outcome=error.failure_class).inc()
        raise pluggy_refusal(error) from error
    if not isinstance(token, str) or not token:
        TOKENS.labels(outcome="unreadable").inc()
        raise Refused(502, "unreadable_answer", "Pluggy's answer holds no token")
    TOKENS.labels(outcome="created").inc()
    log.info("connect_token_created", item_id=str(asked.item_id) if asked.item_id else None)
    return token


def _asked(document: dict[str, Any]) -> Asked:
    """Raises Refused: 400, which names the field."""
    try:
        asked = msgspec.convert(document, Asked)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise Refused(400, "malformed_request", str(error)) from None
    if asked.oauth_redirect_uri is not None and not _is_url(asked.oauth_redirect_uri):
        raise Refused(400, "malformed_request", "oauthRedirectUri is no http or https URL")
    return asked


def _is_url(text: str) -> bool:
    """Whether it is an absolute http or https URL, without spaces and control characters."""
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        return False
    return parts.scheme in ("http", "https") and has_host and not UNPRINTABLE.search(text)


def pluggy_refusal(error: PluggyError) -> Refused:
    failure = classify(error)
    log.warning("connect_token_failed", code=failure.code, error_id=failure.error_id)
    of_pluggy = f" (errorId {failure.error_id})" if failure.error_id else ""
    match error:
        case PluggyNotFound():
            return Refused(404, "item_not_found", "Pluggy does not know the item" + of_pluggy)
        case Deferred():
            return Refused(
                429,
                "rate_limited",
                "the limit of requests to Pluggy is reached",
                **{"Retry-After": str(max(1, round(error.wait_s)))},
            )
        case PluggyHalt():
            return unavailable("pluggy_refuses_us", error.advice)
        case PluggyRejected():
            return Refused(
                400, "refused_by_pluggy", f"Pluggy has answered {failure.code}" + of_pluggy
            )
    failed = f"the request to Pluggy has failed: {failure.code}"
    return Refused(502, "pluggy_unavailable", failed + of_pluggy)
