"""A customer's page: what it may use and why, what it bought and owes, and every event behind that, at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.responses import RedirectResponse, Response

from api.console.frame import Page, Part, Visit, render
from api.console.rendering import HEADERS, segment
from api.parameters import read_bound
from ledger.times import earlier, parse_rfc3339
from projections.entitlements.rows import ORG_PREFIX
from projections.mrr.intervals import month_after
from projections.periods.months import month_of, month_start

SCOPES: Final = ("entitlements:read", "events:read", "dunning:read", "revenue:read")

_LOOKED_THROUGH: Final = (60, 500, 500)
"""How many of the newest events are looked through until enough customers are found: a close makes many, of none."""
_NEWEST: Final = 20
_EVENTS: Final = 20
_ENTRIES: Final = 20
_SUBSCRIPTIONS: Final = 100
_INVOICES: Final = 10
_JOURNAL_DAYS: Final = 75
_NOTHING: Final = Part(hidden=True)


async def search(visit: Visit) -> Response:
    """Ask for a customer, and go to its page; show those with the newest events meanwhile."""
    wanted = visit.query("customer")
    if wanted:
        return RedirectResponse(visit.url(f"/customers/{segment(wanted)}"), status_code=303, headers=HEADERS)
    newest: dict[str, Any] = {}
    cursor = None
    for count in _LOOKED_THROUGH:
        events = await visit.part("/v1/events", order="desc", data=False, limit=count, cursor=cursor)
        for event in events.content["data"] if events.shown else ():
            name = event["stream"].removeprefix(f"{visit.book}/")
            if name.startswith("cus_"):
                newest.setdefault(name, event)
        cursor = events.content["next_cursor"] if events.shown else None
        if cursor is None or len(newest) >= _NEWEST:
            break
    return render(visit, "customers.html", newest=dict(list(newest.items())[:_NEWEST]))


async def show(visit: Visit) -> Response:
    """Show everything about one customer at one moment; of an organisation, what it may use."""
    customer = visit.path("customer")
    path = "/v1/customers/{customer}"
    access = visit.part(f"{path}/entitlements", customer=customer, include="all")
    if customer.startswith(ORG_PREFIX):
        found = await access
        shown = _of_access(found, visit)
        return render(visit, "holder.html", customer=customer, unknown=False, first=_first(_NOTHING, visit), **shown)
    until = _until(visit)
    found, dunning, subscriptions, invoices, journal, oldest, events = await asyncio.gather(
        access,
        visit.part(f"{path}/dunning", customer=customer),
        visit.part(f"{path}/subscriptions", customer=customer, limit=_SUBSCRIPTIONS),
        visit.part(f"{path}/invoices", customer=customer, limit=_INVOICES, cursor=_on(visit, "invoices")),
        visit.part(
            "/v1/revenue/journal",
            customer=customer,
            limit=_ENTRIES,
            cursor=_on(visit, "journal"),
            **{"from": month_of(_earlier(until)), "to": month_of(until)},
        ),
        visit.part(
            "/v1/events", customer=customer, limit=1, data=False, as_of=None, known_at=None, known_position=None
        ),
        visit.part(
            "/v1/events",
            customer=customer,
            order="desc",
            data=False,
            limit=_EVENTS,
            cursor=_on(visit, "events"),
        ),
    )
    return render(
        visit,
        "customer.html",
        customer=customer,
        unknown=oldest.shown and not oldest.content["data"],
        first=_first(oldest, visit),
        months=(_earlier(until), until),
        dunning=dunning,
        subscriptions=subscriptions,
        invoices=invoices,
        journal=journal,
        events=events,
        **_of_access(found, visit),
    )


def _on(visit: Visit, name: str) -> str | None:
    """Return where one of the page's lists goes on."""
    return visit.query(name) or None


def _of_access(access: Part, visit: Visit) -> dict[str, Any]:
    """Return the part on access, with what is said of it: when each answer changes next, and the grants in it."""
    answers = access.content["entitlements"] if access.shown else []
    at = visit.as_of or visit.now
    grants = {
        source["id"]: {"grant": source, "feature": one["feature"], "until": one["valid_until"]}
        for one in answers
        for source in one["sources"]
        if source["kind"] == "grant"
    }
    return {"access": access, "changes": [next_change(one, at) for one in answers], "grants": list(grants.values())}


def _first(events: Part, visit: Visit) -> datetime:
    """Return where the time slider begins: at the customer's first event, or a year ago."""
    found = events.content["data"] if events.shown else []
    return parse_rfc3339(found[0]["created"]) if found else visit.now - timedelta(days=365)


def _until(visit: Visit) -> datetime:
    """Return the month before which the journal's part ends: the one asked for, or the one after the moment's."""
    asked = read_bound("journal_to", visit.query("journal_to")) if visit.query("journal_to") else None
    return month_start(month_of(asked)) if asked else month_after(visit.as_of or visit.now)


def _earlier(until: datetime) -> datetime:
    return month_start(month_of(earlier(until, timedelta(days=_JOURNAL_DAYS))))


def next_change(answer: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when an answer changes next by itself, by what is known."""
    times = [parse_rfc3339(answer[name]) for name in ("valid_from", "valid_until", "ends_at") if answer[name]]
    return min((time for time in times if time > now), default=None)


PAGES: Final = (
    Page("/customers", search, SCOPES, nav="Customers", sample="/customers"),
    Page("/customers/{customer}", show, SCOPES, sample="/customers/{customer}"),
)
