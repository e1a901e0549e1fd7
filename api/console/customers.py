"""A customer's page: what it may use and why."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from api.console.frame import Page, Visit, render
from api.console.rendering import HEADERS, segment

SCOPES = ("entitlements:read", "events:read", "dunning:read", "revenue:read")


async def search(visit: Visit) -> Response:
    """Ask for a customer, and go to its page."""
    wanted = visit.query("customer")
    if wanted:
        return RedirectResponse(visit.url(f"/customers/{segment(wanted)}"), status_code=303, headers=HEADERS)
    return render(visit, "customers.html")


async def show(visit: Visit) -> Response:
    """Show everything about one customer."""
    customer = visit.path("customer")
    access = await visit.part("/v1/customers/{customer}/entitlements", customer=customer, include="all")
    return render(visit, "customer.html", customer=customer, access=access)


PAGES = (
    Page("/customers", search, SCOPES, nav="Customers", sample="/customers"),
    Page("/customers/{customer}", show, SCOPES, sample="/customers/cus_1"),
)
