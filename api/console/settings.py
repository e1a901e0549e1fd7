"""Settings as the service has them, keys and secrets by name, the catalog in force, and what is granted by hand."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.responses import Response

from api.console.frame import NOW, Page, Visit, done, render
from api.console.projections import confirmed, refusal
from api.problems import HANDLED, Problem

ANY: Final = ("admin", "entitlements:read", "grants:write")

_GRANTS: Final = 100


async def show(visit: Visit, refused: Problem | None = None) -> Response:
    """Show settings, keys, the catalogs and the grants, as far as the key may see them."""
    settings, catalogs, grants = await asyncio.gather(
        visit.part("/v1/settings"),
        visit.part("/v1/catalog"),
        visit.part("/v1/grants", limit=_GRANTS, cursor=visit.query("cursor") or None, **NOW),
    )
    return render(
        visit,
        "settings.html",
        settings=settings,
        catalogs=catalogs,
        grants=grants,
        refused=refused,
    )


async def change_grants(visit: Visit) -> Response:
    """Grant a feature by hand, or take a grant back."""
    try:
        if visit.form.get("do") == "revoke":
            grant, body = visit.form.get("grant", ""), {"reason": visit.form.get("reason", "")}
            await visit.ask("DELETE /v1/grants/{grant}", grant=grant, body=body)
            return done(visit, visit.url("/settings"), f"{grant} is taken back.")
        wanted = _grant(visit)
        made = await visit.ask("POST /v1/grants", body=wanted)
    except HANDLED as error:
        return await show(visit, refusal(error))
    return done(visit, visit.url("/settings"), f"{made['feature']} is granted to {made['customer']}.")


def _grant(visit: Visit) -> dict[str, Any]:
    given = {name: value.strip() for name, value in visit.form.items() if value.strip()}
    names = ("customer", "feature", "valid_from", "valid_until", "reason")
    wanted: dict[str, Any] = {name: given[name] for name in names if name in given}
    value = given.get("value")
    return wanted if value is None else wanted | {"value": int(value[:18]) if value.isdecimal() else value}


async def show_catalog(visit: Visit, refused: Problem | None = None, preview: Any = None) -> Response:
    """Show every catalog that was published, and ask for another."""
    catalogs = await visit.ask("/v1/catalog")
    published = list(reversed(catalogs["data"]))
    text = visit.form.get("text") or (published[0]["content"] if published else "")
    return render(
        visit,
        "catalog.html",
        published=published,
        text=text,
        preview=preview,
        refused=refused,
    )


async def change_catalog(visit: Visit) -> Response:
    """Look at what a catalog would change, or publish it."""
    text = visit.form.get("text", "").replace("\r\n", "\n")
    try:
        if visit.form.get("do") != "publish":
            preview = await visit.ask("POST /v1/catalog/preview", body=text.encode())
            return await show_catalog(visit, preview=preview)
        confirmed(visit)
        since = visit.form.get("effective_from", "").strip() or None
        made = await visit.ask("PUT /v1/catalog", body=text.encode(), effective_from=since)
    except HANDLED as error:
        return await show_catalog(visit, refusal(error))
    told = f"Catalog {made['version']} is published." if made["position"] else "That text holds already."
    return done(visit, visit.url("/settings/catalog"), told)


PAGES: Final = (
    Page("/settings", show, scopes=ANY, nav="Settings", sample="/settings"),
    Page("/settings/grants", change_grants, scopes=("grants:write",), method="POST"),
    Page("/settings/catalog", show_catalog, scopes=("entitlements:read",), sample="/settings/catalog"),
    Page("/settings/catalog", change_catalog, scopes=("admin",), method="POST"),
)
