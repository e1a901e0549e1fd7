"""What all reads of a projection share: the book, moment and build asked about, and the answer's freshness."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.access import book_of_request, require, services
from api.parameters import (
    FORGED_CURSOR,
    MAX_LIMIT,
    MAX_WAIT_SECONDS,
    integer_parameter,
    path_value,
    seconds_parameter,
    time_parameter,
)
from api.problems import JSONResponse, Problem
from api.services import Services
from ledger.event import IDENTIFIER
from ledger.reader import position_at, read_head
from ledger.times import parse_rfc3339, rfc3339
from projections.builds import Freshness, any_parked, enter_build

T = TypeVar("T")

KEPT_AT: Final = """
SELECT b.build_id
FROM ledger.build AS b
JOIN ledger.checkpoint AS c ON c.build_id = b.build_id AND c.book = $2
WHERE b.projection = $1 AND b.bounded AND b.phase = 'ready' AND b.certificate IS NOT NULL AND c.position = $3
ORDER BY b.number DESC
LIMIT 1
"""

ANY_PARKED: Final = "SELECT EXISTS (SELECT FROM ledger.parked WHERE build_id = $1 AND book = $2)"

ANY_DIRTY: Final = """
SELECT EXISTS (SELECT FROM dirty WHERE book = $1 AND ($2::text[] IS NULL OR subject = ANY ($2))),
       set_config('plan_cache_mode', 'force_custom_plan', true)
"""
"""Whether somebody is to be refolded. It also makes PostgreSQL plan the following statements for their parameters: the
generic plan, used from a statement's sixth run on, takes two to three times as long for a busy month."""

DEFAULT_LIMIT: Final = 100

_LAST_POSITION: Final = 2**63 - 1
_POLL_SECONDS: Final = 0.02
_STALE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks about. ``known`` is the position up to which events count as known; None means all."""

    book: str
    now: datetime
    as_of: datetime | None
    known: int | None
    build: str | None
    min_position: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was read, its build's freshness, and whether some of it may be outdated: parked, or not refolded yet."""

    value: T
    freshness: Freshness
    parked: bool = False
    dirty: bool = False


async def asked_by(request: Request, scope: str) -> Asked:
    """Read the parameters that every read takes. Raises 401, 403 and 400."""
    key = require(request, scope)
    book = await book_of_request(request, key)
    return Asked(
        book=book,
        now=services(request).clock(),
        as_of=time_parameter(request, "as_of", "at"),
        known=await _known_position(request, book),
        build=request.query_params.get("build"),
        min_position=integer_parameter(request, "min_position", 0, 0, _LAST_POSITION),
        wait_seconds=seconds_parameter(request, "wait", 0, MAX_WAIT_SECONDS),
    )


async def _known_position(request: Request, book: str) -> int | None:
    known_at = time_parameter(request, "known_at")
    if known_at is None and "known_position" not in request.query_params:
        return None
    async with services(request).pool.acquire() as connection:
        if known_at is not None:
            return await position_at(connection, book, known_at)
        asked = integer_parameter(request, "known_position", 0, 0, _LAST_POSITION)
        return min(asked, await read_head(connection, book))


def customer_in_path(request: Request) -> str:
    """Return the customer named in the path."""
    customer = path_value(request, "customer")
    if not IDENTIFIER.fullmatch(customer):
        raise Problem(400, "name a customer (cus_…)")
    return customer


async def read_build(
    serving: Services,
    projection: str,
    asked: Asked,
    read: Callable[[asyncpg.Connection], Awaitable[T]],
    subjects: list[str] | None = None,
) -> Found[T]:
    """Read rows of the live build, or a kept one, in one snapshot, once they are as recent and clean as asked for.

    Raises 503 if that takes longer than ``wait``. ``subjects`` are those the question is about; None means all.
    """

    async def look() -> tuple[Freshness, Found[T] | None]:
        async with (
            serving.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            freshness = await enter_build(connection, projection, asked.book, asked.build)
            if freshness.build is None or freshness.position < asked.min_position:
                return freshness, None
            dirty = bool(await connection.fetchval(ANY_DIRTY, asked.book, subjects))
            if dirty and asked.min_position > 0:
                return freshness, None
            value = await read(connection)
            return freshness, Found(value, freshness, await _parked(connection, freshness, subjects), dirty)

    return await when_folded(asked, look)


def fresh_as_known(asked: Asked, freshness: Freshness) -> Freshness:
    """Return the freshness of an answer folded just now: if asked as known at a position, that position's."""
    if asked.known is None:
        return freshness
    return Freshness(asked.book, freshness.build, asked.known, freshness.head, None)


def as_known(asked: Asked, found: Found[T]) -> Found[T]:
    """Set the freshness of an answer as known, unless a kept build gave it, to the position asked about."""
    if asked.known is None or asked.build is not None:
        return found
    return replace(found, freshness=fresh_as_known(asked, found.freshness))


async def when_folded(asked: Asked, look: Callable[[], Awaitable[tuple[Freshness, T | None]]]) -> T:
    """Call ``look`` until it finds something: it returns None until its build has folded ``min_position`` and is clean.

    Raises 404 if there is no such build, and 503 if it takes longer than ``wait``.
    """
    freshness = Freshness(asked.book, None, 0, 0, None)

    async def once() -> T | None:
        nonlocal freshness
        freshness, found = await look()
        if asked.build is not None and freshness.build is None:
            raise Problem(404, f"there is no build {asked.build}")
        return found

    found = await look_until(once, asked.wait_seconds)
    if found is None:
        raise _not_yet(freshness, asked.min_position)
    return found


async def look_until(look: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
    """Call ``look`` until it returns something, at least once and for at most this many seconds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await look()
        if found is not None or asyncio.get_running_loop().time() + _POLL_SECONDS > deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


async def _parked(connection: asyncpg.Connection, freshness: Freshness, subjects: list[str] | None) -> bool:
    if subjects is None:
        return bool(await connection.fetchval(ANY_PARKED, freshness.build, freshness.book))
    return await any_parked(connection, freshness.build, subjects)


def _not_yet(freshness: Freshness, min_position: int) -> Problem:
    if freshness.build is None:
        return Problem(503, "the projection is not built yet", headers={"Retry-After": "1"})
    detail = f"folded up to position {freshness.position}, not yet {min_position}"
    if freshness.position >= min_position:
        detail = "a late link or term is still being folded"
    return Problem(503, detail, kind="not-yet", headers={"Retry-After": "1"})


async def build_for(serving: Services, projection: str, asked: Asked) -> Asked:
    """Return what is asked about a whole book as known at a position, with the kept build made for that position.

    Raises 409 ``build-required`` if there is none, naming the request that makes one.
    """
    if asked.known is None or asked.build is not None:
        return asked
    async with serving.pool.acquire() as connection:
        build = await connection.fetchval(KEPT_AT, projection, asked.book, asked.known)
    if build is None:
        detail = (
            f"for a whole book, POST /v1/projections/{projection}/rebuilds with "
            f'{{"book": "{asked.book}", "until_position": {asked.known}}} to make a build of what was known then; '
            "it answers this request when it is ready"
        )
        raise Problem(409, detail, kind="build-required")
    return Asked(asked.book, asked.now, asked.as_of, asked.known, build, asked.min_position, asked.wait_seconds)


def answer(asked: Asked, content: dict[str, Any], found: Found[Any]) -> Response:
    """Answer with what was found and how fresh it is."""
    freshness = found.freshness
    lag_seconds = round(freshness.lag_seconds(asked.now), 3)
    content["freshness"] = {
        "book": freshness.book,
        "position": freshness.position,
        "head": freshness.head,
        "lag_seconds": lag_seconds,
        "build": freshness.build,
        "stale": lag_seconds > _STALE_SECONDS or found.parked or found.dirty,
        "parked": found.parked,
    }
    return JSONResponse(content, headers={"Ledger-Position": str(freshness.position), "Cache-Control": "no-store"})


def time_json(moment: datetime | None) -> str | None:
    """Write a time, or null."""
    return None if moment is None else rfc3339(moment)


def encode_key(*parts: str | int) -> str:
    """Encode the key of a page's last row as a cursor that is opaque to the caller."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


Key = Callable[[T], tuple[Any, ...]]
"""Gives a row's unique sort key: texts, whole numbers and times."""


def page_parameters(request: Request, *kinds: type, default: int = DEFAULT_LIMIT) -> tuple[int, tuple[Any, ...] | None]:
    """Return the page's size, and the key of the previous page's last row."""
    return integer_parameter(request, "limit", default, 1, MAX_LIMIT), key_parameter(request, *kinds)


def page_through(
    request: Request, rows: Sequence[T], key: Key[T], *kinds: type, default: int = MAX_LIMIT, descending: bool = False
) -> tuple[Sequence[T], str | None]:
    """Return the requested page of a list that was read whole, and the cursor of the next page, if there is one."""
    limit, after = page_parameters(request, *kinds, default=default)
    left = [one for one in rows if after is None or (key(one) < after if descending else key(one) > after)]
    return page_of(left, limit, key)


def page_of(rows: Sequence[T], limit: int, key: Key[T]) -> tuple[Sequence[T], str | None]:
    """Return the first ``limit`` of up to ``limit + 1`` rows, and the cursor of the next page, if there is one."""
    page = rows[:limit]
    if len(rows) <= limit:
        return page, None
    return page, encode_key(*(rfc3339(part) if isinstance(part, datetime) else part for part in key(page[-1])))


def key_parameter(request: Request, *kinds: type) -> tuple[Any, ...] | None:
    """Read a cursor that ``encode_key`` wrote, with parts of these types. Raises 400 for any other."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        parts = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or len(parts) != len(kinds):
        raise Problem(400, FORGED_CURSOR)
    return tuple(_part_of_key(part, kind) for part, kind in zip(parts, kinds, strict=True))


def _part_of_key(part: object, kind: type) -> str | int | datetime:
    """Read one part: text that the database can hold, a 64-bit number, or a time."""
    if kind is int and type(part) is int and abs(part) < 2**63:
        return part
    if kind is not int and isinstance(part, str) and "\x00" not in part:
        try:
            return parse_rfc3339(part) if kind is datetime else part
        except (ValueError, OverflowError):
            pass
    raise Problem(400, FORGED_CURSOR)
