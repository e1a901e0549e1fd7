"""``GET /v1/customers/{customer}/entitlements/{feature}``: the present from memory, everything else from the database.

Memory answers as long as the tail of the change log confirms it. If it last did so more than a second ago, the answer
says ``stale``; more than five, the database is asked instead. Both write the same bytes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import entitlements
from api.access import bearer_of, require, services
from api.entitlements import answer_json, customer_of, freshness_json, respond_one
from api.front import CHECK, asked_by_whom
from api.memory import Body, Entry
from api.parameters import book_parameter, path_value
from api.secrets import ApiKey
from api.services import Services
from ledger.written import json_bytes
from projections.entitlements.feed import BookState
from projections.entitlements.query import Entitlements, Moment, entitlements_of

_STALE_SECONDS: Final = 1.0
_USELESS_SECONDS: Final = 5.0
_SCOPE: Final = "entitlements:read"
_BEFORE, _BETWEEN, _ = CHECK.replace("{customer}", "{}").replace("{feature}", "{}").split("{}")


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said of a book's freshness while nothing waits to be folded: the same until the tail has read again."""

    state: BookState
    freshness: bytes
    position: bytes


class Present:
    """ASGI application before another: answers plain checks from memory, and passes everything else on.

    A check is plain if it has no parameters and its key may ask. Routing and Starlette's overhead would cost more than
    the answer.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        """``state`` is the application's, where its services will be."""
        self._app = app
        self._state = state
        self._said: dict[tuple[str, bool], _Said] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        is_plain = scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]
        answer = None
        if is_plain and scope["path"].startswith(_BEFORE):
            # What fails here fails in the routes too, where it is logged and answered as a problem.
            with contextlib.suppress(Exception):
                answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, send)
            return
        body, position = answer
        headers = [
            (b"ledger-position", position),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """Return the body and the position it is of; None where more must be looked at than memory."""
        customer, between, feature = scope["path"][len(_BEFORE) :].partition(_BETWEEN)
        if not between or "/" in customer or "/" in feature or b"%2" in (scope.get("raw_path") or b""):
            return None  # of another route; or with a slash in a value, which only the raw path tells
        asked, serving = asked_by_whom(scope), self._state.services
        key = asked.bearer = bearer_of(scope, serving)
        if key is None or not key.allows(_SCOPE):
            return None
        serving.live.tail.want()
        state = state_of_book(serving, key, None)
        entry = None if state is None else _entry(serving, state, customer)
        if state is None or entry is None:
            return None
        asked.key, asked.route = key.name, CHECK
        now = serving.clock()
        content, stale = entry.body(feature, now, _render)
        said = self._say(serving, state, now, stale=stale)
        return b'%b,"freshness":%b}' % (content, said.freshness), said.position

    def _say(self, serving: Services, state: BookState, now: datetime, *, stale: bool) -> _Said:
        stale = stale or _is_unconfirmed(serving)
        found = self._said.get((state.freshness.book, stale))
        if found is None or found.state is not state:
            found = _Said(state, _freshness(state, now, stale=stale), b"%d" % state.freshness.position)
            if state.freshness.waiting_since is None:
                self._said[state.freshness.book, stale] = found
        return found


async def get_entitlement(request: Request) -> Response:
    """Answer for one feature: always an answer, granted or not. What is read for it is kept in memory."""
    if not request.query_params.keys() <= {"book"}:
        return await entitlements.get_entitlement(request)
    key, serving = require(request, _SCOPE), services(request)
    serving.live.tail.want()
    state = state_of_book(serving, key, book_parameter(request))
    if state is None:
        return await entitlements.get_entitlement(request)
    customer, feature = customer_of(path_value(request, "customer")), path_value(request, "feature")
    entry = _entry(serving, state, customer)
    if entry is None:
        return respond_one(request, await _load(serving, state.freshness.book, customer), feature)
    now = serving.clock()
    content, stale = entry.body(feature, now, _render)
    freshness = _freshness(state, now, stale=stale or _is_unconfirmed(serving))
    headers = {"Ledger-Position": str(state.freshness.position), "Cache-Control": "no-store"}
    return Response(b'%b,"freshness":%b}' % (content, freshness), media_type="application/json", headers=headers)


def _entry(serving: Services, state: BookState, customer: str) -> Entry | None:
    """Return what is kept of a holder, if it is of the build that the answer will name: one may be live since."""
    entry = serving.live.memory.get(state.freshness.book, customer)
    return entry if entry is not None and entry.found.freshness.build == state.freshness.build else None


def _is_unconfirmed(serving: Services) -> bool:
    age = serving.live.tail.age_seconds()
    return age is None or age > _STALE_SECONDS


def _freshness(state: BookState, now: datetime, *, stale: bool) -> bytes:
    return orjson.dumps(freshness_json(state.freshness, now, stale=stale, parked=False))


def state_of_book(serving: Services, key: ApiKey, asked: str | None) -> BookState | None:
    """Return how far the book that is asked about was, as the tail last saw it; None where the database must say."""
    states, age = serving.live.tail.states(), serving.live.tail.age_seconds()
    if age is None or age > _USELESS_SECONDS:
        return None
    book = asked or key.book or serving.settings.book_by_default
    if book not in states and len(states) == 1 and asked is None and key.book is None:
        (book,) = states
    state = states.get(book)
    return state if state is not None and state.touch is not None and key.sees(book) else None


async def _load(serving: Services, book: str, customer: str) -> Entitlements:
    moment = Moment(serving.clock())

    async def read() -> tuple[Entitlements, int | None]:
        found = await serving.holders.one(book, customer)
        return entitlements_of(found, customer, moment), found.touch

    return await serving.live.memory.load(book, customer, moment.now, read)


def _render(found: Entitlements, feature: str) -> Body:
    answer = found.answer(feature)
    content = answer_json(answer) | {"customer": found.customer, "org": found.org}
    return json_bytes(content)[:-1], answer.stale
