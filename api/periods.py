"""``/v1/periods``: which months are closed, closing the oldest open one, and reopening the latest closed one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import book_to_change, require, services
from api.bodies import json_body, reason_of
from api.calls import once
from api.outward.coverage import first_hour, read_hours
from api.parameters import MAX_WAIT_SECONDS, integer_parameter, path_value, seconds_parameter
from api.problems import Problem
from api.reads import Asked as Question
from api.reads import answer, asked_by, look_until, page_through, read_build, time_json
from api.services import Services
from ledger.calls import KeyedCall
from ledger.event import NewEvent
from ledger.reader import read_head
from ledger.times import rfc3339
from projections.builds import enter_build
from projections.periods import tables
from projections.periods.closing import Asked, Closing, Progress, close_month, read_checklist, reopen_month
from projections.periods.decisions import PeriodError
from projections.periods.effective import Objection
from projections.periods.months import is_month, month_after, month_end, month_named, month_of, month_start
from projections.periods.query import (
    Period,
    read_chunk,
    read_first_month,
    read_holdings,
    read_periods,
)
from projections.periods.seal import SealedLine, SealedMovement, written

SCOPE: Final = "periods:close"
_OPEN: Final[dict[str, Any]] = {
    "status": "open", "seal": None, "position": None, "digest": None, "by": None, "at": None, "reason": None,
    "forced": None, "exceptions": [], "policies": None, "code": None, "reopened": None,
}  # fmt: skip
"""What an open month says in every place in which a closed one says something."""

_SEALS_MAX: Final = 1_000_000


async def list_periods(request: Request) -> Response:
    """List every month from the book's first to the present one, and how each that is closed was closed.

    Once months are closed the first of them is the first: what is learned of earlier ones later is reported as of it.
    """
    asked = await asked_by(request, "revenue:read")
    serving = services(request)

    async def read(connection: asyncpg.Connection) -> tuple[list[Period], str | None]:
        periods = await read_periods(connection, asked.book)
        if (await enter_build(connection, serving.revenue.name, asked.book)).build is None:
            return periods, None
        first = await read_first_month(connection, asked.book)
        return periods, None if first is None else month_named(first)

    found = await read_build(serving, tables.NAME, asked, read)
    periods, first = found.value
    closed = {one.month: one for one in periods if _holds(one, asked.as_of, asked.known)}
    data = []
    month = min(closed, default=first)
    last = max([month_of(min(asked.as_of or asked.now, asked.now)), *closed])
    while month is not None and month <= last:
        data.append(_month_json(month, closed.get(month), [one for one in periods if one.month == month]))
        month = month_after(month)
    page, cursor = page_through(request, data, lambda one: (one["month"],), str)
    return answer(asked, {"data": page, "next_cursor": cursor}, found)


async def get_period(request: Request) -> Response:
    """Show a seal of a month, by default the latest: its totals, and whether its rows give its digest.

    The latter reads every row; ``verify=false`` skips it.
    """
    asked = await asked_by(request, "revenue:read")
    month = _month(request)
    wanted = integer_parameter(request, "seal", 0, 0, _SEALS_MAX)
    verify = request.query_params.get("verify") != "false"

    async def read(connection: asyncpg.Connection) -> dict[str, Any]:
        periods = [one for one in await read_periods(connection, asked.book) if one.month == month]
        chosen = [one for one in periods if wanted in (0, one.seal) and _made(one, asked)]
        if not chosen:
            raise Problem(404, f"{month} has no seal {wanted}" if wanted else f"{month} was never closed")
        period = chosen[-1]
        holdings = await read_holdings(connection, asked.book, period.digest)
        verified = await _verified(connection, asked.book, period) if verify else None
        return {**period_json(period), **asdict(holdings), "verified": verified}

    found = await read_build(services(request), tables.NAME, asked, read)
    return answer(asked, found.value, found)


async def _verified(connection: asyncpg.Connection, book: str, period: Period) -> bool:
    """Return whether the sealed rows give the seal's digest, chunk by chunk: a month may not fit in memory."""
    hashed = hashlib.sha256()
    for number in range(1, period.chunks + 1):
        lines, moved = await read_chunk(connection, book, period.digest, number)
        rows: list[SealedLine | SealedMovement] = [*lines, *moved]
        for row in rows:
            hashed.update(written(row))
    return hashed.hexdigest() == period.digest


async def get_checklist(request: Request) -> Response:
    """Answer what blocks closing a month now, or at an earlier moment."""
    asked = await asked_by(request, "revenue:read")
    serving, month = services(request), _month(request)
    at = asked.as_of or asked.now

    async def read(connection: asyncpg.Connection) -> list[Objection]:
        return await read_checklist(connection, serving.revenue, asked.book, month, asked.as_of)

    found = await read_build(serving, serving.revenue.name, asked, read)
    objections = [*found.value, *await _others(serving, asked.book, month, at)]
    content = {
        "month": month,
        "ended": at >= month_end(month),
        "exceptions": [one.content for one in objections],
    }
    return answer(asked, content, found)


async def close_period(request: Request) -> Response:
    """Close the oldest open month. Answers 409 with the list of what blocks it, unless forced.

    Closing and reopening are answered once reads reflect them, or after ``wait`` seconds (by default one).
    """
    key = require(request, SCOPE)
    book = await book_to_change(request, key)
    body = await json_body(request, {"reason", "force"})
    force, wait_seconds = body.get("force", False), seconds_parameter(request, "wait", 1, MAX_WAIT_SECONDS)
    if not isinstance(force, bool):
        raise Problem(400, "force must be true or false")
    serving = services(request)
    asked = Asked(book, _month(request), key.name, reason_of(body), serving.clock(), force)

    def told(closing: Closing) -> dict[str, Any]:
        return {
            "month": closing.month,
            "status": "closed",
            "seal": closing.seal,
            "digest": closing.digest,
            "position": closing.position,
            "by": asked.by,
            "at": time_json(asked.now),
            "reason": asked.reason,
            "exceptions": [one.content for one in closing.objections],
        }

    async def act(call: KeyedCall | None) -> dict[str, Any]:
        def beside(closing: Closing) -> list[NewEvent]:
            return [] if call is None else call.answered(told(closing), asked.now)

        closing = await close_checked(serving, asked, beside=beside)
        await _until_folded(serving, book, wait_seconds)
        return told(closing)

    wanted = {"book": book, "month": asked.month, "reason": asked.reason, "force": force}
    return await once(request, key, "close", wanted, act)


async def close_checked(
    serving: Services,
    asked: Asked,
    progress: Progress = lambda _: None,
    beside: Callable[[Closing], Sequence[NewEvent]] = lambda _: (),
) -> Closing:
    """Close a month; if Stripe's API can be asked, hours not proven complete block it as well."""
    async with serving.pool.acquire() as connection:
        if not await read_head(connection, asked.book):
            raise PeriodError(f"{asked.book} has no event: there is nothing to close")
    others = await _others(serving, asked.book, asked.month, asked.now)
    return await close_month(serving.pool, serving.appender, serving.revenue, asked, others, progress, beside)


async def _others(serving: Services, book: str, month: str, now: datetime) -> list[Objection]:
    return [] if serving.settings.stripe_api_key is None else await unproven(serving.pool, book, month, now)


async def unproven(pool: asyncpg.Pool, book: str, month: str, now: datetime) -> list[Objection]:
    """Return the objection that hours of the month, since the log began, are not proven complete."""
    async with pool.acquire() as connection:
        first = await first_hour(connection, book)
        since = max(month_start(month), first or now)
        until = month_end(month)
        hours = await read_hours(connection, book, since, until) if since < until else []
    missing = [rfc3339(one.hour) for one in hours if not one.proven]
    detail = f"{len(missing)} hours are not proven complete: `ledger sweep` asks Stripe for them"
    return [Objection("unproven", detail, missing)] if missing else []


async def reopen_period(request: Request) -> Response:
    """Reopen the latest closed month; its seal stays readable."""
    key = require(request, SCOPE)
    book = await book_to_change(request, key)
    reason = reason_of(await json_body(request, {"reason"}))
    serving, wait_seconds = services(request), seconds_parameter(request, "wait", 1, MAX_WAIT_SECONDS)
    month, now = _month(request), serving.clock()

    told = {"month": month, "status": "open", "by": key.name, "at": time_json(now), "reason": reason}

    async def act(call: KeyedCall | None) -> dict[str, Any]:
        beside = [] if call is None else call.answered(told, now)
        await reopen_month(
            serving.pool, serving.appender, book, month, by=key.name, reason=reason, now=now, beside=beside
        )
        await _until_folded(serving, book, wait_seconds)
        return told

    return await once(request, key, "reopen", {"book": book, "month": month, "reason": reason}, act)


async def _until_folded(serving: Services, book: str, wait_seconds: float) -> None:
    """Wait until reads reflect a decision, but not for long: it is durable and will be folded."""
    async with serving.pool.acquire() as connection:
        head = await read_head(connection, book)

    async def look() -> bool | None:
        async with serving.pool.acquire() as connection, connection.transaction(readonly=True):
            return (await enter_build(connection, tables.NAME, book)).position >= head or None

    await look_until(look, wait_seconds)


def _holds(one: Period, as_of: datetime | None, known: int | None) -> bool:
    """Tell whether a close holds: at a moment, and as far as is known at a position."""
    if as_of is None or known is not None:
        return one.closed_at(known) and (as_of is None or one.at <= as_of)
    return one.at <= as_of and (one.reopened_at is None or one.reopened_at > as_of)


def _made(one: Period, asked: Question) -> bool:
    """Tell whether a close, standing or not, had been made by what is asked about."""
    by_then = asked.as_of is None or one.at <= asked.as_of
    return by_then and (asked.known is None or one.closed_position <= asked.known)


def period_json(one: Period) -> dict[str, Any]:
    """Write one close."""
    reopened = None
    if one.reopened_at is not None:
        reopened = {"by": one.reopened_by, "at": time_json(one.reopened_at), "reason": one.reopened_reason}
    return {
        "month": one.month,
        "status": "closed" if reopened is None else "reopened",
        "seal": one.seal,
        "position": one.position,
        "digest": one.digest,
        "by": one.by,
        "at": time_json(one.at),
        "reason": one.reason,
        "forced": one.forced,
        "exceptions": one.exceptions,
        "policies": one.policies,
        "code": one.code,
        "reopened": reopened,
    }


def _month_json(month: str, closed: Period | None, seals: list[Period]) -> dict[str, Any]:
    shown = {"month": month, **_OPEN} if closed is None else period_json(closed)
    return shown | {"seals": [one.seal for one in seals]}


def _month(request: Request) -> str:
    month = path_value(request, "month")
    if not is_month(month):
        raise Problem(400, "name a month such as 2026-01")
    return month
