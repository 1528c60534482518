"""Try WEBHOOK_URL as Pluggy would: deliver a ping with the secret, and see it in the database."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Final

import aiohttp

from worker.inbox.events import PING
from worker.infra.postgres import Pool
from worker.maintenance.subscriptions import RECEIVER_PATH, Expected
from worker.store import operating

DELIVERY_TIMEOUT_S: Final = 5.0
"""Pluggy's own: a delivery that is not answered by then has failed."""
ARRIVAL_TIMEOUT_S: Final = 5.0
POLL_INTERVAL_S: Final = 0.2
ACCEPTED: Final = 202

OF_STATUS: Final = {
    401: ("unauthorized", "the receiver refuses the secret: its WEBHOOK_SECRET is another one"),
    404: ("not_found", f"nothing answers at this path: a proxy has to pass on {RECEIVER_PATH}"),
    403: ("forbidden", "a proxy or WEBHOOK_ALLOW_FROM refuses this sender; Pluggy has another one"),
    413: ("too_large", "a proxy in front of the receiver refuses the body as too large"),
    502: ("bad_gateway", "a proxy answers, and the receiver behind it does not"),
    503: ("unavailable", "the receiver can store nothing now: its GET /readyz says why"),
    504: ("bad_gateway", "a proxy answers, and the receiver behind it does not"),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """How a delivery to WEBHOOK_URL went; state `arrived`, or what is wrong, and the remedy."""

    state: str
    detail: str

    @property
    def arrived(self) -> bool:
        return self.state == "arrived"


async def try_delivery(db: Pool, expected: Expected, secret: str) -> Trial:
    """Deliver a ping to the URL with a secret. Raises asyncpg's errors alone."""
    event_id = str(uuid.uuid4())
    timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                expected.url,
                json={"event": PING, "eventId": event_id},
                headers={expected.header: secret},
                allow_redirects=False,
            ) as response,
        ):
            status = response.status
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return _of_error(error)
    if status != ACCEPTED:
        return _of_status(status)
    return await _arrival(db, event_id)


def _of_error(error: Exception) -> Trial:
    """By the kind of error alone: the texts of libraries may quote the URL."""
    match error:
        case TimeoutError():
            return Trial("timeout", f"no answer within {DELIVERY_TIMEOUT_S:g} s, Pluggy's limit")
        case aiohttp.ClientConnectorDNSError():
            return Trial("dns", "its host name has no address here: look at the DNS record")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return Trial("tls", "its certificate is not valid for this host, or TLS fails")
        case aiohttp.ClientConnectorError():
            return Trial("refused", "no connection: nothing listens there, or a firewall drops it")
        case _:
            return Trial("broken", f"the connection broke ({type(error).__name__})")


def _of_status(status: int) -> Trial:
    if 300 <= status < 400:
        return Trial("redirect", f"it redirects ({status}): name the final address, with https")
    state, detail = OF_STATUS.get(status, ("odd_answer", "this is no receiver of ours"))
    return Trial(state, f"{detail} (status {status})")


async def _arrival(db: Pool, event_id: str) -> Trial:
    clock = asyncio.get_running_loop().time
    until = clock() + ARRIVAL_TIMEOUT_S
    while not await operating.has_arrived(db, event_id=event_id):
        if clock() > until:
            detail = "it was accepted, and is not in this database: the receiver writes to another"
            return Trial("elsewhere", f"{detail}, or spools while it cannot reach this one")
        await asyncio.sleep(POLL_INTERVAL_S)
    return Trial("arrived", "delivered, accepted and stored")
