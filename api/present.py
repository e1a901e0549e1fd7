"""``GET /v1/customers/{customer}/entitlements/{feature}``: the present from memory, everything else from the database.

Memory answers for what the tail of the change log has confirmed. Was that more than a second ago, the answer says
``stale``; more than five, the database is asked. Both write the same bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api import entitlements
from api.access import require, services
from api.entitlements import answer_json, customer_of, freshness_json, respond_one
from api.memory import Body
from api.parameters import book_parameter, path_value
from api.secrets import ApiKey
from api.services import Services
from projections.entitlements.feed import BookState
from projections.entitlements.query import Entitlements, Moment, entitlements_of

_STALE_SECONDS: Final = 1.0
_USELESS_SECONDS: Final = 5.0
_PLAIN: Final = frozenset({"book"})


async def get_entitlement(request: Request) -> Response:
    """Answer for one feature: always an answer, granted or not."""
    if not request.query_params.keys() <= _PLAIN:
        return await entitlements.get_entitlement(request)
    key = require(request, "entitlements:read")
    serving = services(request)
    serving.live.tail.want()
    state = _state(request, serving, key)
    if state is None:
        return await entitlements.get_entitlement(request)
    customer = customer_of(path_value(request, "customer"))
    entry = serving.live.memory.get(state.freshness.book, customer)
    if entry is None:
        found = await _load(serving, state.freshness.book, customer)
        return respond_one(request, found, path_value(request, "feature"))
    now = serving.clock()
    content, stale = entry.body(path_value(request, "feature"), now, _render)
    return _respond(serving, state, content, now, stale=stale)


def _state(request: Request, serving: Services, key: ApiKey) -> BookState | None:
    """Return how far the book that is asked about was, as the tail last saw it; None where the database must say."""
    states, age = serving.live.tail.states(), serving.live.tail.age_seconds()
    if age is None or age > _USELESS_SECONDS:
        return None
    book = book_parameter(request) or key.book or serving.settings.book_by_default
    if book not in states and len(states) == 1 and "book" not in request.query_params and key.book is None:
        (book,) = states
    state = states.get(book)
    return state if state is not None and state.touch is not None and key.sees(book) else None


async def _load(serving: Services, book: str, customer: str) -> Entitlements:
    moment = Moment(serving.clock())

    async def read() -> tuple[Entitlements, int | None]:
        found = await serving.checks.one(book, customer)
        return entitlements_of(found, customer, moment), found.touch

    return await serving.live.memory.load(book, customer, moment.now, read)


def _render(found: Entitlements, feature: str) -> Body:
    answer = found.answer(feature)
    content = answer_json(answer) | {"customer": found.customer, "org": found.org}
    return orjson.dumps(content)[:-1], answer.stale


def _respond(serving: Services, state: BookState, content: bytes, now: datetime, *, stale: bool) -> Response:
    age = serving.live.tail.age_seconds()
    stale = stale or age is None or age > _STALE_SECONDS
    freshness = orjson.dumps(freshness_json(state.freshness, now, stale=stale, parked=False))
    return _Ready(b'%b,"freshness":%b}' % (content, freshness), state.freshness.position)


class _Ready(Response):
    """A response that is whole already: what Starlette would find out about it is known."""

    def __init__(self, body: bytes, position: int) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"ledger-position", b"%d" % position),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]
