"""GET /: whether the service is well, and what to do if not. Plain HTML without script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from aiohttp import web

from ops.web.access import SEARCHED, is_search
from ops.web.responses import CSP, PAGE_POLICY, Refused
from ops.web.services import OpsServices, services_of
from worker.infra.parsing import clean_text
from worker.infra.postgres import Connection
from worker.store import operating
from worker.store.operating import Finding, ListedItem, Overview

STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; border-left: 0.6rem solid gray; padding-left: 0.6rem; }
h1.green { border-color: #2e7d32; }
h1.yellow { border-color: #f9a825; }
h1.red { border-color: #c62828; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; }
tr + tr { border-top: 1px solid #ddd; }
code { background: #f2f2f2; padding: 0.1rem 0.3rem; }
"""
MAX_ITEMS: Final = 100
FORM: Final = (
    f'<form action="/"><label>clientUserId <input name="{SEARCHED}" maxlength="255" required>'
    "</label> <button>Find items</button></form>"
)
FIND_BY_COMMAND: Final = (
    "<p>With <code>OPS_TOKEN</code> set, items are found here by clientUserId; else by"
    " <code>pluggy-sync items list --user</code>.</p>"
)
CONNECT: Final = '<p><a href="/connect">Connect a bank</a></p>'
COUNTS: Final = (
    "items",
    "workers",
    "events_pending",
    "events_walking",
    "items_due",
    "dead_letters",
    "stale_products",
    "incomplete_products",
)


async def overview(request: web.Request) -> web.Response:
    """GET /: 200, or 503 with a page that says why nothing can be shown."""

    services = services_of(request)
    if is_search(request):
        return await _search(services, request.query[SEARCHED])

    async def load(conn: Connection) -> tuple[Overview | None, list[Finding]]:
        return await operating.overview(conn), await operating.findings(conn)

    try:
        found, findings = await services.ask(load)
    except Refused as refused:
        title = heading("red", f"The state is not known: {refused.detail} ({refused.error}).")
        return page("pluggy-sync", title, status=refused.status)
    if found is None:
        return page("pluggy-sync", heading("red", "The database holds no state: migrate it."))
    light = found.light or "red"
    counts = table(["", ""], [[name.replace("_", " "), getattr(found, name)] for name in COUNTS])
    title = heading(light, f"{light}: {found.sentence}")
    return page("pluggy-sync", title, _findings(findings), counts, *_ways(services))


async def _search(services: OpsServices, client_user_id: str) -> web.Response:
    """The items of a person, by the statement of `items list --user`; the name is not shown."""

    async def load(conn: Connection) -> list[ListedItem]:
        return await operating.list_items(
            conn,
            client_user_id=clean_text(client_user_id),
            connector_id=None,
            state=None,
            blocked_on=None,
            stale=False,
            limit=MAX_ITEMS,
        )

    found = await services.ask(load)
    title = heading("", f"Items of this clientUserId: {len(found) or 'none'}")
    rows = [
        [item.item_id, item.connector_name, item.state, item.reason, ", ".join(item.blocked_on)]
        for item in found
    ]
    shown = [table(["item", "connector", "state", "reason", "waits for"], rows)] if rows else []
    return page("pluggy-sync", title, *shown, *_ways(services))


def _ways(services: OpsServices) -> list[str]:
    """Where to go on from here."""
    find = FORM if services.access.token else FIND_BY_COMMAND
    return [find, CONNECT] if services.access.is_local else [find]


async def style(_: web.Request) -> web.Response:
    """GET /style.css: of all pages."""
    return web.Response(text=STYLE, content_type="text/css")


def page(title: str, *parts: str, status: int = 200, policy: str = PAGE_POLICY) -> web.Response:
    """A page of parts that are HTML already. policy: its Content-Security-Policy."""
    html = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        '</title><link rel="stylesheet" href="/style.css"></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    return web.Response(text=html, status=status, content_type="text/html", headers={CSP: policy})


def heading(light: str, text: str) -> str:
    """The first line of a page, with a light."""
    return f'<h1 class="{escape(light)}">{escape(text)}</h1>'


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of values, which are escaped; None is empty."""
    lines = [_row("th", names), *(_row("td", row) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing is wrong, and nothing waits for anybody.</p>"
    rows = [
        [found.severity, found.what, found.blocked_on, found.since, found.how_many, found.command]
        for found in findings
    ]
    return table(["", "finding", "waits for", "since", "how many", "command"], rows)


def _row(tag: str, values: Sequence[Any]) -> str:
    cells = (f"<{tag}>{'' if value is None else escape(str(value))}</{tag}>" for value in values)
    return f"<tr>{''.join(cells)}</tr>"
