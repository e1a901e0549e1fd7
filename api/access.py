"""Who is asking, what they may see, and which book they mean."""

from __future__ import annotations

from typing import Final, cast

import asyncpg
from starlette.requests import Request
from starlette.types import Scope

from api.front import asked_by_whom
from api.metrics import Metrics
from api.parameters import book_parameter
from api.problems import Problem
from api.secrets import ApiKey, find_key
from api.services import Services
from ledger.books import OF_STRIPE
from ledger.reader import read_books

_IDEMPOTENCY_KEY_CHARACTERS: Final = 255

SIGNED_IN: Final = "ledger.signed_in"
"""The scope entry in which a console page passes its session's key to a route of this process."""


def services(request: Request) -> Services:
    """Return the services of the process answering this request."""
    return cast(Services, request.app.state.services)


def metrics_of(request: Request) -> Metrics:
    """Return the metrics of the process answering this request."""
    return cast(Metrics, request.app.state.metrics)


def require(request: Request, scope: str) -> ApiKey:
    """Return the caller's key. Raises 401 without a valid one and 403 without the scope."""
    asked = asked_by_whom(request.scope)
    key = asked.bearer or request.scope.get(SIGNED_IN) or bearer_of(request.scope, services(request))
    if key is None:
        raise Problem(401, "send a valid key as `Authorization: Bearer KEY`", headers={"WWW-Authenticate": "Bearer"})
    asked.bearer, asked.key = key, key.name
    if not key.allows(scope):
        raise Problem(403, f"this key has no scope {scope}")
    return key


def bearer_of(scope: Scope, serving: Services) -> ApiKey | None:
    """Return the key in a request's header; None if there is none, or it is unknown."""
    # Read the first such header straight from the scope: Starlette would decode all headers to find it.
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
    scheme, _, presented = given.partition(" ")
    return find_key(serving.credentials.api_keys, presented.strip()) if scheme.lower() == "bearer" else None


def idempotency_key_of(request: Request) -> str | None:
    """Return the request's Idempotency-Key, under which a retry is not done twice."""
    given = request.headers.get("idempotency-key")
    if given is not None and not 0 < len(given) <= _IDEMPOTENCY_KEY_CHARACTERS:
        raise Problem(400, f"an Idempotency-Key has 1 to {_IDEMPOTENCY_KEY_CHARACTERS} characters")
    return given


async def book_of_request(request: Request, key: ApiKey) -> str:
    """Return the book a request is about. Raises 403 if the key may not see it, 400 if it is not clear which."""
    book = book_parameter(request) or key.book or await default_book(services(request))
    if not key.sees(book):
        raise Problem(403, f"this key is for another book than {book}")
    return book


async def book_to_change(request: Request, key: ApiKey) -> str:
    """Return the book a decision is for, as ``book_of_request``. Raises 400 unless it belongs to a Stripe account."""
    book = await book_of_request(request, key)
    if not OF_STRIPE.fullmatch(book):
        raise Problem(400, f"{book} is not the book of a Stripe account: those look like self:live or acct_123:test")
    return book


async def default_book(serving: Services) -> str:
    """Return the book meant by a request without ``book``: the default or, while that has no event, the only other.

    Raises 400 ``book-required`` if several others could be meant.
    """
    preferred = serving.settings.book_by_default
    if preferred in serving.live.tail.states():
        return preferred  # a book that has an event keeps it
    async with serving.pool.acquire() as connection:
        return await book_meant(connection, preferred)


async def book_meant(connection: asyncpg.Connection, preferred: str) -> str:
    """Return the book meant where none is named, as ``default_book`` does; the command line uses it too."""
    books = [head.book for head in await read_books(connection) if head.is_stripe]
    if preferred in books or not books:
        return preferred
    if len(books) == 1:
        return books[0]
    raise Problem(400, f"name a book with book=, one of: {', '.join(books)}", kind="book-required")
