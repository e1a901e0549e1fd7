"""The console: pages for people, rendered from the same queries that the JSON routes use."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import asyncpg
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

from api import session
from api.access import default_book, services
from api.entitlements import answer_json
from api.parameters import book_parameter
from api.problems import Problem
from api.secrets import find_key
from api.services import Services
from ledger.event import IDENTIFIER
from ledger.reader import Filter, read_books, read_page
from ledger.times import rfc3339
from projections.builds import list_builds
from projections.entitlements.query import Entitlements, Moment, read_entitlements
from projections.entitlements.rows import ORG_PREFIX

_TEMPLATES = Path(__file__).parent / "templates"
_LATEST_EVENTS = 20
_MAX_FORM_BYTES = 4096

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


async def page(request: Request) -> Response:
    """Show the heads of the log, the newest events, and one customer's entitlements when asked for."""
    serving = services(request)
    key = session.current_key(request, serving.credentials.api_keys)
    if key is None:
        return RedirectResponse("/sign-in", status_code=303)
    book = book_parameter(request) or key.book or await _book_or_first(serving)
    if not key.sees(book):
        raise Problem(403, f"this key is for another book than {book}")
    customer = request.query_params.get("customer", "").strip()
    may = {scope: key.allows(scope) for scope in ("events:read", "entitlements:read")}
    async with (
        serving.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # Read before the entitlements: entering the build's schema lasts until the transaction ends.
        context = await _overview(connection, book, show_events=may["events:read"])
        found = None
        if _is_customer(customer) and may["entitlements:read"]:
            found = await read_entitlements(connection, serving.entitlements, book, customer, Moment(serving.clock()))
    context |= {"book": book, "books": [one for one in context["books"] if key.sees(one["book"])], "may": may}
    context |= {"key": key.name, "customer": customer, "entitlements": _shown(found), "parked": found and found.parked}
    return _render(request, "console.html", context)


async def sign_in(request: Request) -> Response:
    """Ask for an API key, and remember who it belongs to."""
    if request.method == "GET":
        return _render(request, "sign_in.html", {"wrong": False})
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise Problem(413, "a key is shorter than that")
    presented = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()
    keys = services(request).credentials.api_keys
    key = find_key(keys, presented)
    if key is None:
        return _render(request, "sign_in.html", {"wrong": True}, status_code=401)
    response = RedirectResponse("/", status_code=303)
    session.start(response, request, keys, key)
    return response


async def sign_out(_: Request) -> Response:
    """Forget who was signed in."""
    response = RedirectResponse("/sign-in", status_code=303)
    session.end(response)
    return response


async def _book_or_first(serving: Services) -> str:
    """Return the default book; where several could be meant, the console just shows one."""
    try:
        return await default_book(serving)
    except Problem:
        async with serving.pool.acquire() as connection:
            return next(head.book for head in await read_books(connection) if head.is_stripe)


async def _overview(connection: asyncpg.Connection, book: str, *, show_events: bool) -> dict[str, Any]:
    books = await read_books(connection)
    events = await read_page(connection, book, Filter(), _LATEST_EVENTS, newest_first=True) if show_events else []
    return {
        "books": [{"book": one.book, "position": one.position, "at": rfc3339(one.recorded_at)} for one in books],
        "builds": await list_builds(connection),
        "events": [
            {
                "position": event.position,
                "id": event.event_id,
                "type": event.type,
                "created": rfc3339(event.created),
                "subject": event.stream_id.removeprefix(f"{book}/"),
            }
            for event in events
        ],
    }


def _is_customer(text: str) -> bool:
    return bool(IDENTIFIER.fullmatch(text)) or (text.startswith(ORG_PREFIX) and "\x00" not in text)


def _shown(found: Entitlements | None) -> list[dict[str, Any]] | None:
    return None if found is None else [answer_json(answer) for answer in found.answers]


def _render(request: Request, name: str, context: dict[str, Any], status_code: int = 200) -> Response:
    templates = Jinja2Templates(directory=_TEMPLATES)
    return templates.TemplateResponse(request, name, context, status_code=status_code, headers=_SECURITY_HEADERS)
