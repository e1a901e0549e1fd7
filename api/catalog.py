"""``/v1/catalog`` and ``/v1/grants``: what people decide about access. Each decision is a fact with a name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import book_to_change, idempotency_key_of, require, services
from api.bodies import json_body, raw_body, reason_of, time_of
from api.entitlements import customer_of
from api.events import answer_at_head, asked_of_log
from api.granting import (
    Grant,
    MisfitError,
    NoSuchGrantError,
    make_grant,
    publish_catalog,
    read_publications,
    revoke_grant,
)
from api.parameters import MAX_WAIT_SECONDS, path_value, seconds_parameter, time_parameter
from api.problems import JSONResponse, Problem
from api.reads import look_until, page_through
from api.services import Services
from ledger.catalogs import Publication
from ledger.times import parse_rfc3339
from projections import links
from projections.catalog import CatalogError, parse_catalog
from projections.entitlements.query import folded_position
from projections.entitlements.rows import NAME_CHARACTERS_MAX, ORG_PREFIX
from projections.facts import number

CATALOG_BYTES_MAX: Final = 1_000_000
HOLDERS: Final = (*links.BEGINS, ORG_PREFIX)
"""How the names of those begin who can be granted something."""


async def put_catalog(request: Request) -> Response:
    """Publish a catalog; answers once it is in effect, or after ``wait`` seconds (by default one).

    ``position`` is null if that text is in force already.
    """
    key = require(request, "admin")
    book = await book_to_change(request, key)
    since = time_parameter(request, "effective_from")
    wait_seconds = seconds_parameter(request, "wait", 1, MAX_WAIT_SECONDS)
    text = await catalog_text(request)
    serving = services(request)
    async with serving.pool.acquire() as connection:
        made, position = await publish_catalog(
            connection, serving.appender, book, text, effective_from=since, by=key.name, now=serving.clock()
        )
    if position is not None:
        await _until_folded(serving, book, position, wait_seconds)
    return JSONResponse(_publication_json(made) | {"book": book, "position": position})


async def catalog_text(request: Request) -> str:
    """Read a catalog's text from a body. Raises ``CatalogError``."""
    try:
        return (await raw_body(request, CATALOG_BYTES_MAX)).decode()
    except UnicodeDecodeError as error:
        raise CatalogError(0, "", "not UTF-8") from error


async def list_catalogs(request: Request) -> Response:
    """List a book's catalogs, oldest first; as of a moment those in effect by then, or known by then."""
    asked, head = await asked_of_log(request, "entitlements:read")
    async with services(request).pool.acquire() as connection:
        found = await read_publications(connection, asked.book, asked.known)
    if asked.as_of is not None:
        found = [one for one in found if one.effective_from is None or parse_rfc3339(one.effective_from) <= asked.as_of]
    page, cursor = page_through(request, found, lambda one: (one.number,), int)
    data = [_publication_json(one) | {"content": one.content} for one in page]
    return answer_at_head({"data": data, "next_cursor": cursor}, asked.book, head)


def _publication_json(made: Publication) -> dict[str, Any]:
    catalog = parse_catalog(made.content)
    return {
        "version": made.number,
        "effective_from": made.effective_from,
        "revenue_from": made.revenue_from,
        "by": made.by,
        "features": sorted(catalog.features),
        "plans": len(catalog.plans),
    }


async def _until_folded(serving: Services, book: str, position: int, wait_seconds: float) -> None:
    """Wait until answers reflect an event, but not for long: it is durable and will be folded."""

    async def look() -> bool | None:
        async with serving.pool.acquire() as connection, connection.transaction(readonly=True):
            return await folded_position(connection, serving.entitlements, book) >= position or None

    if await look_until(look, wait_seconds):
        # Caches in memory switch at the same marker.
        await serving.live.tail.reach(book, position, wait_seconds)


async def create_grant(request: Request) -> Response:
    """Grant a feature to a customer or an organisation, for a time or for good."""
    key = require(request, "grants:write")
    book = await book_to_change(request, key)
    known = {"customer", "feature", "value", "valid_from", "valid_until", "reason"}
    serving = services(request)
    grant = _grant(await json_body(request, known))
    idempotency_key = idempotency_key_of(request)
    async with serving.pool.acquire() as connection:
        try:
            grant_id, position = await make_grant(
                connection,
                serving.appender,
                book,
                grant,
                by=key.name,
                idempotency_key=idempotency_key,
                now=serving.clock(),
            )
        except MisfitError as error:
            raise Problem(422, str(error), kind="misfit") from error
    content = grant.content(grant_id) | {"value": _shown(grant.value), "position": position, "book": book}
    return JSONResponse(content, status_code=201)


def _grant(body: dict[str, Any]) -> Grant:
    customer, feature = body.get("customer"), body.get("feature")
    if not isinstance(customer, str):
        raise Problem(400, "name a customer (cus_…) or an organisation (org:NAME)")
    return Grant(
        customer=holder_of(customer),
        feature=feature_name(feature),
        value=value_text(body.get("value")),
        valid_from=time_of(body, "valid_from"),
        valid_until=time_of(body, "valid_until"),
        reason=_storable(reason_of(body), "reason"),
    )


def holder_of(text: str) -> str:
    """Return the customer or organisation something is granted to. Raises 400 for any other name.

    A question about another name is simply answered with nothing, but a grant to one would be lost silently.
    """
    holder = customer_of(text)
    if not holder.startswith(HOLDERS) or holder in HOLDERS:
        raise Problem(400, f"{text} is neither a customer (cus_…) nor an organisation (org:NAME)")
    return holder


def feature_name(value: object) -> str:
    """Return a feature's name, if it can be one. Raises 400."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARACTERS_MAX:
        raise Problem(400, f"feature must be a name of 1 to {NAME_CHARACTERS_MAX} characters")
    return _storable(value, "feature")


def _storable(text: str, name: str) -> str:
    if "\x00" in text:
        raise Problem(400, f"{name} contains a NUL")
    return text


def value_text(value: object) -> str | None:
    """Write what a grant gives: None for a yes, else an amount or a choice. Raises 400."""
    if value is None or value is True:
        return None
    exact = number(value) if not isinstance(value, str) else None
    if exact is not None and 0 <= exact < 10**15:
        return format(exact, "f")
    if isinstance(value, str) and 0 < len(value) <= NAME_CHARACTERS_MAX and number(value) is None:
        return _storable(value, "value")
    raise Problem(400, "value must be true, a whole number from 0, or a choice")


def _shown(value: str | None) -> bool | int | float | str:
    if value is None:
        return True
    exact: Decimal | None = number(value)
    if exact is None:
        return value
    return int(exact) if exact == exact.to_integral_value() else float(exact)


async def delete_grant(request: Request) -> Response:
    """Take a grant back."""
    key = require(request, "grants:write")
    book = await book_to_change(request, key)
    reason = _storable(reason_of(await json_body(request, {"reason"})), "reason")
    serving, grant_id = services(request), path_value(request, "grant")
    async with serving.pool.acquire() as connection:
        try:
            position = await revoke_grant(
                connection, serving.appender, book, grant_id, reason=reason, by=key.name, now=serving.clock()
            )
        except NoSuchGrantError as error:
            raise Problem(404, str(error)) from error
    return JSONResponse({"id": grant_id, "revoked": True, "position": position, "book": book})
