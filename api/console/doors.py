"""Who may come in: session, scope, book, form token; and what is shown where something fails.

``routes`` makes the application's routes of a list of pages; ``answer_error`` is its handler for every exception.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from api import session
from api.access import default_book, services
from api.console import assets, rendering
from api.console.frame import Page, Visit
from api.front import asked_by_whom
from api.parameters import book_parameter, integer_parameter, read_bound
from api.problems import Problem, answer_problem, problem_of
from api.secrets import ApiKey, find_key
from api.services import Services
from ledger.reader import BookHead, read_books

_log = structlog.get_logger()

_MAX_FORM_BYTES: Final = 64 * 1024
_MAX_FIELDS: Final = 100
_LAST_POSITION: Final = 2**63 - 1
_FOR_MACHINES: Final = ("/v1", "/webhooks", "/openapi.json", "/healthz", "/readyz", "/metrics")
_AS_WRITTEN: Final = re.compile(r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?([Zz]|[ +-]\d{2}:\d{2})?")


def routes(pages: tuple[Page, ...]) -> list[Route]:
    """Return the routes of these pages, of signing in and out, and of the files they use."""
    return [
        *(_at(path, pages) for path in dict.fromkeys(page.path for page in pages)),
        Route("/sign-in", sign_in, methods=["GET", "POST"]),
        Route("/sign-out", _opened(Page("/sign-out", sign_out, method="POST"), pages), methods=["POST"]),
        *assets.ROUTES,
    ]


def _at(path: str, pages: tuple[Page, ...]) -> Route:
    """Return the one route of a path: a route for each method would not say which others there are."""
    opened = {page.method: _opened(page, pages) for page in pages if page.path == path}

    async def endpoint(request: Request) -> Response:
        return await opened["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=list(opened))


def _opened(page: Page, pages: tuple[Page, ...]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page: it opens the visit, and the page answers."""

    async def endpoint(request: Request) -> Response:
        sessions = session.sessions_of(services(request))
        current = sessions.current(request)
        if current is None or await session.has_ended(services(request).pool, current):
            return _to_sign_in(request)
        asked_by_whom(request.scope).key = current.key.name
        form = {}
        if page.method == "POST":
            _refuse_other_sites(request)
            form = await _form(request)
            if not sessions.holds(current, form.pop("token", "")):
                raise Problem(403, "this form is not from your session: go back, reload the page and send it again")
        if not page.opens_for(current.key):
            raise Problem(403, f"this page needs a key with {' or '.join(page.scopes)}")
        serving = services(request)
        heads = await _heads(serving)
        book = await _book(request, serving, current.key, heads)
        visit = Visit(
            request=request,
            services=serving,
            sessions=sessions,
            session=current,
            pages=tuple(one for one in pages if one.nav and one.opens_for(current.key)),
            page=page,
            book=book,
            heads=tuple(head for head in heads if current.key.sees(head.book)),
            now=serving.clock(),
            as_of=time_of(request, "as_of"),
            known_at=time_of(request, "known_at"),
            known_position=_position(request),
            form=form,
        )
        return await page.show(visit)

    return endpoint


async def sign_in(request: Request) -> Response:
    """Ask for an API key, and remember who it belongs to."""
    wanted = _local(request.query_params.get("next", ""))
    if request.method == "GET":
        return rendering.respond("sign_in.html", {"wrong": False, "wanted": wanted})
    _refuse_other_sites(request)
    form = await _form(request)
    serving = services(request)
    key = find_key(serving.credentials.api_keys, form.get("key", "").strip())
    if key is None:
        return rendering.respond("sign_in.html", {"wrong": True, "wanted": wanted}, 401)
    response = RedirectResponse(_local(form.get("next", "")), status_code=303, headers=rendering.HEADERS)
    session.sessions_of(serving).start(response, request, key)
    return response


async def sign_out(visit: Visit) -> Response:
    """Forget who was signed in."""
    response = RedirectResponse("/sign-in", status_code=303, headers=rendering.HEADERS)
    await session.end(response, visit.services.pool, visit.session)
    return response


async def answer_error(request: Request, error: Exception) -> Response:
    """Answer an exception: a page where a person looks, a problem where a machine asks."""
    if request.url.path.startswith(_FOR_MACHINES):
        return await answer_problem(request, error)
    problem = problem_of(error)
    if problem.status == 500:
        _log.error("request_failed", exc_info=error)
    title = HTTPStatus(problem.status).phrase
    response = rendering.respond("error.html", {"problem": problem, "title": title}, problem.status)
    response.headers.update({name: value for name, value in problem.headers.items() if name != "WWW-Authenticate"})
    return response


def time_of(request: Request, name: str) -> datetime | None:
    """Read a time as people write it: a month, a day, or a time without its seconds, or its offset where it is UTC."""
    text = request.query_params.get(name, "").strip()
    if not text:
        return None
    if written := _AS_WRITTEN.fullmatch(text):
        text = f"{written[1]}{written[2] or ':00'}{written[3] or 'Z'}"
    return read_bound(name, text)


def _position(request: Request) -> int | None:
    if not request.query_params.get("known_position", ""):
        return None
    return integer_parameter(request, "known_position", 0, 0, _LAST_POSITION)


def _to_sign_in(request: Request) -> Response:
    path = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
    here = f"{path}?{request.url.query}" if request.url.query else path
    wanted = "" if request.method != "GET" or here == "/" else f"?next={quote(here, safe='')}"
    return RedirectResponse(f"/sign-in{wanted}", status_code=303, headers=rendering.HEADERS)


def _local(address: str) -> str:
    """Return an address of this site as it is, and for any other the front page."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_local else "/"


def _refuse_other_sites(request: Request) -> None:
    """Refuse a form that another site sent: browsers say where a form comes from."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        is_own = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_own:
        raise Problem(403, "this form was sent from another site")


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise Problem(413, "the form is too large")
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise Problem(400, f"a form has at most {_MAX_FIELDS} fields") from error


async def _heads(serving: Services) -> list[BookHead]:
    async with serving.pool.acquire() as connection:
        return [head for head in await read_books(connection) if head.is_stripe]


async def _book(request: Request, serving: Services, key: ApiKey, heads: list[BookHead]) -> str:
    """Return the book a page is about; where several could be meant, the console just shows one."""
    book = book_parameter(request) or key.book
    if book is None:
        try:
            book = await default_book(serving)
        except Problem:
            book = heads[0].book
    if not key.sees(book):
        raise Problem(403, f"this key is for another book than {book}")
    return book
