"""The subscription check: does Pluggy send every event to us, once, with the right secret?"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from worker.inbox.events import CONNECTOR_EVENTS, ITEM_EVENTS, TRANSACTION_EVENTS
from worker.infra.lanes import Lane
from worker.infra.lazy_log import LazyLog
from worker.infra.parsing import parse_time
from worker.infra.postgres import Pool
from worker.infra.settings import PluggySettings
from worker.pluggy_api.client import PluggyClient
from worker.pluggy_api.endpoints import PluggyReader
from worker.pluggy_api.errors import PluggyError, PluggyUnavailable, classify
from worker.pluggy_api.payloads import Unreadable, decode_object
from worker.store import reconciliation

log = LazyLog()

CHECK_INTERVAL: Final = timedelta(minutes=10)
CHECK_PAUSE: Final = timedelta(minutes=1)
"""After deliveries with a wrong secret the list is read at once, but not more often than this."""
WANTED: Final = ITEM_EVENTS | TRANSACTION_EVENTS | CONNECTOR_EVENTS
NO_CONTENT: Final = 204
GOOD: Final = ("ok", "elsewhere")
RECEIVER_PATH: Final = "/webhooks/pluggy"
"""The receiver's path. A proxy may add a prefix, and changes nothing else."""
SHOWN_SEGMENT: Final = 16
"""A part of a path as long as the shortest secret is shown as ***."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A webhook as Pluggy lists it. url and headers are never stored or logged."""

    id: str
    event: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """The right webhook; any of the secrets is right while they are rotated."""

    url: str
    header: str
    secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, settings: PluggySettings) -> Self | None:
        """The right webhook by these settings; None if they name none."""
        if settings.webhook_url is None:
            return None
        return cls(settings.webhook_url, settings.webhook_secret_header, settings.webhook_secrets)


@dataclass(frozen=True, slots=True)
class Finding:
    """A judged webhook as stored, or a missing one (then without id)."""

    hook_id: str | None
    event: str
    host: str | None
    state: str
    disabled_at: datetime | None = None
    url: str | None = field(default=None, compare=False)
    """For a person, without secrets; only shown, never stored."""


def judge(hooks: Sequence[Subscription], expected: Expected) -> list[Finding]:
    """Judge all webhooks of an application; each fault is reported once."""
    findings = [_judge_alone(hook, expected) for hook in hooks]
    findings = _mark_duplicates(findings)
    ours = [f.event for f in findings if f.state not in ("elsewhere", "wrong_url")]
    missing = sorted(event for event in WANTED if not any(_covers(o, event) for o in ours))
    if len(missing) == len(WANTED):
        missing = ["all"]
    host = urlsplit(expected.url).hostname
    return findings + [Finding(None, event, host, "missing") for event in missing]


def _judge_alone(hook: Subscription, expected: Expected) -> Finding:
    state = _state(hook, expected)
    shown = shown_url(hook.url, whole_path=state != "elsewhere")
    host = urlsplit(hook.url).hostname
    return Finding(hook.id, hook.event, host, state, hook.disabled_at, shown)


def _state(hook: Subscription, expected: Expected) -> str:
    last = _plain(hook.url).rpartition("/")[2]
    in_header = _plain(hook.url) == _plain(expected.url)
    in_path = carries_secret_in_path(hook, expected)
    if not in_header and not in_path:
        same_host = urlsplit(hook.url).hostname == urlsplit(expected.url).hostname
        return "wrong_url" if same_host else "elsewhere"
    if not leads_to_receiver(expected.url):
        return "wrong_path"
    if hook.disabled_at is not None:
        return "disabled"
    given = unquote(last) if in_path else _header(hook.headers, expected.header)
    return "ok" if not expected.secrets or _is_one_of(given, expected.secrets) else "wrong_secret"


def leads_to_receiver(url: str) -> bool:
    """Whether the receiver answers at the path of a WEBHOOK_URL."""
    parts = urlsplit(_plain(url))
    return parts.path.endswith(RECEIVER_PATH) and not parts.query


def shown_url(url: str, *, whole_path: bool) -> str | None:
    """A webhook's URL for a person: no user, no query, nothing in its path that may be a secret.

    whole_path: False shows the host alone, of a webhook that is not ours. None: no URL.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if not whole_path:
        return f"{address}/…" if parts.path.strip("/") else address
    path = parts.path
    if parts.path.rpartition("/")[0].endswith(RECEIVER_PATH):
        path = parts.path.rpartition("/")[0] + "/***"
    segments = ("***" if len(unquote(s)) >= SHOWN_SEGMENT else s for s in path.split("/"))
    return address + "/".join(segments) + ("?***" if parts.query else "")


def carries_secret_in_path(hook: Subscription, expected: Expected) -> bool:
    """Whether the secret is in the path: for senders that cannot set headers."""
    return _plain(hook.url).rpartition("/")[0] == _plain(expected.url)


def _plain(url: str) -> str:
    """A URL for comparison: the case of scheme and host, and a slash at the end, do not count."""
    parts = urlsplit(url)
    plain = parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower())
    return plain.geturl().rstrip("/")


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


def _is_one_of(given: str, secrets: Iterable[str]) -> bool:
    return any(hmac.compare_digest(given.encode(), secret.encode()) for secret in secrets)


def _mark_duplicates(findings: Sequence[Finding]) -> list[Finding]:
    """Mark duplicates: of webhooks that announce the same events, the broadest is kept."""
    announced: set[str] = set()
    marked: dict[int, Finding] = {}
    broadest = sorted(range(len(findings)), key=lambda i: -len(_announced_by(findings[i].event)))
    for i in broadest:
        finding = findings[i]
        events = _announced_by(finding.event)
        is_duplicate = finding.state == "ok" and bool(events & announced)
        marked[i] = replace(finding, state="double") if is_duplicate else finding
        if finding.state == "ok":
            announced |= events
    return [marked[i] for i in range(len(findings))]


def _announced_by(subscribed: str) -> set[str]:
    return {event for event in WANTED if _covers(subscribed, event)}


def _covers(subscribed: str, event: str) -> bool:
    """`all`, `item/all` (documented, though not in Pluggy's enum) or the event's own name."""
    return subscribed in ("all", event, event.split("/", 1)[0] + "/all")


def read_subscription(fields: Mapping[str, Any]) -> Subscription:
    """Read leniently: an unreadable webhook counts as one that leads elsewhere."""
    headers = fields.get("headers")
    return Subscription(
        id=str(fields.get("id") or ""),
        event=str(fields.get("event") or ""),
        url=_readable_url(fields.get("url")),
        headers={k: v for k, v in headers.items() if isinstance(v, str)}
        if isinstance(headers, dict)
        else {},
        disabled_at=parse_time(fields.get("disabledAt")),
    )


def _readable_url(value: object) -> str:
    try:
        return value if isinstance(value, str) and urlsplit(value).hostname else ""
    except ValueError:
        return ""


async def watch_subscriptions(db: Pool, client: PluggyClient, expected: Expected) -> bool:
    """Check Pluggy's list, if this worker gets the lease of the task; returns whether it did."""
    await reconciliation.hasten_subscriptions(db, pause=CHECK_PAUSE)
    if not await reconciliation.take_periodic_task_lease(
        db, name="subscriptions", pause=CHECK_INTERVAL
    ):
        return False
    failure: str | None = None
    try:
        hooks = await fetch_subscriptions(client)
    except PluggyError as error:
        failure = classify(error).code
        log.warning("subscriptions_unchecked", code=failure, error_id=error.error_id)
    else:
        await store_findings(db, judge(hooks, expected))
    await reconciliation.end_periodic_task(db, name="subscriptions", failure_code=failure)
    return True


async def fetch_subscriptions(client: PluggyClient) -> list[Subscription]:
    """Every webhook of the application. Raises PluggyError.

    A list that may go on is none: a webhook that it lacks would be registered again.
    """
    try:
        page = await PluggyReader(client, Lane.LIVE).rows("/webhooks")
    except PluggyError as error:
        if error.status == NO_CONTENT:
            return []  # documented for an application that has none
        raise
    if page.incomplete_reason is not None:
        raise PluggyUnavailable(page.incomplete_reason)
    return [read_subscription(_fields(bytes(row))) for row in page.rows]


async def store_findings(db: Pool, findings: Sequence[Finding]) -> None:
    """Replace the previous findings; an unchanged one keeps its since."""
    async with db.acquire() as conn, conn.transaction():
        before = {
            (record.hook_id, record.event, record.state): record.since
            for record in await reconciliation.load_subscriptions(conn)
        }
        since = [before.get((f.hook_id, f.event, f.state)) for f in findings]
        await reconciliation.delete_subscriptions(conn)
        await reconciliation.store_subscriptions(
            conn,
            hook_ids=[f.hook_id for f in findings],
            events=[f.event for f in findings],
            hosts=[f.host for f in findings],
            states=[f.state for f in findings],
            disabled_ats=[f.disabled_at for f in findings],
            sinces=since,
        )
    for finding, known_since in zip(findings, since, strict=True):
        if finding.state not in GOOD and known_since is None:
            log.warning("subscription_wrong", state=finding.state, event_name=finding.event)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return decode_object(body)
    except Unreadable:
        return {}
