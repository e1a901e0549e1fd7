"""``/v1/revenue/mrr``: what subscriptions are worth per month, at any moment, and how that moved."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.basis import basis_json, build_or_close, honours_closes, sealed_month, wants_sealed
from api.parameters import MAX_LIMIT, identifier_parameter
from api.problems import Problem
from api.reads import (
    Asked,
    answer,
    as_known,
    asked_by,
    page_of,
    page_parameters,
    read_build,
    time_json,
)
from api.services import Services
from ledger.event import IDENTIFIER
from ledger.times import earlier, parse_rfc3339, rfc3339
from projections.builds import enter_build
from projections.dunning.standing import present
from projections.mrr.intervals import INTERVALS, Bounds, month_after
from projections.mrr.known import Known, read_known
from projections.mrr.query import (
    Moved,
    Total,
    Wanted,
    read_at_risk,
    read_newest,
    read_spans,
    read_subscriptions_at_risk,
    read_totals,
)
from projections.mrr.rows import MovementRow, SpanRow
from projections.mrr.worth import POLICIES, Policy
from projections.periods.months import month_of, month_start
from projections.periods.moved import Place
from projections.periods.movements import AsKnown, OfBuild
from projections.periods.query import enter_closed, read_sealed_worth
from projections.periods.worth import Reported, as_they_are, read_reported

SCOPE: Final = "revenue:read"
MAX_INTERVALS: Final = 1_000
T = TypeVar("T")
_INSTANT: Final = timedelta(microseconds=1)


async def get_mrr(request: Request) -> Response:
    """Answer the total worth per month at one moment, by currency, and how much of it is at risk."""
    policy, sealed = policy_parameter(request), wants_sealed(request)
    serving = services(request)
    asked = await asked_by(request, SCOPE)
    asked = await build_or_close(request, asked, asked.as_of or asked.now)

    async def read(connection: asyncpg.Connection) -> tuple[datetime, list[Total], dict[str, int] | None, bool]:
        risky, at = None, asked.as_of or asked.now
        dunning = await _enter_dunning(connection, asked)
        if dunning:
            newest = await read_newest(connection, asked.book)
            at = present(asked.now, asked.as_of, [newest] if newest else [])
            risky = await read_subscriptions_at_risk(connection, asked.book, at)
        worth = await read_sealed_totals(connection, asked, at, policy) if sealed else None
        await enter_build(connection, serving.revenue.name, asked.book, asked.build)
        totals = await read_totals(connection, asked.book, at, policy)
        at_risk = None if risky is None else await read_at_risk(connection, risky, at, policy)
        return at, totals if worth is None else worth, at_risk, worth is not None

    found = as_known(asked, await read_build(serving, serving.revenue.name, asked, read))
    at, totals, at_risk, is_sealed = found.value
    content = {
        "at": rfc3339(at),
        "policy": policy,
        "basis": basis_json(is_sealed=is_sealed),
        "mrr": {
            one.currency: {
                "total": one.total,
                "customers": one.customers,
                "at_risk": None if at_risk is None else at_risk.get(one.currency, 0),
                "incomplete": one.incomplete,
            }
            for one in totals
        },
    }
    return answer(asked, content, found)


async def read_sealed_totals(
    connection: asyncpg.Connection, asked: Asked, at: datetime, policy: Policy
) -> list[Total] | None:
    """Return what was sealed for the month that ends at a moment; None where its month is open.

    Raises 409 ``sealed`` for any other moment of a closed month.
    """
    if not honours_closes(asked):
        return None
    closed = await enter_closed(connection, asked.book, asked.known)
    month = sealed_month(closed, at)
    if month is None:
        return None
    worth = await read_sealed_worth(connection, asked.book, closed.digests(month), policy)
    return [Total(currency, total, customers, 0) for currency, (total, customers) in worth.items()]


async def _enter_dunning(connection: asyncpg.Connection, asked: Asked) -> bool:
    """Enter dunning's build for the cases: the live one, since a kept build of revenue has no cases of its own."""
    if asked.build is not None:
        return False
    return (await enter_build(connection, "dunning", asked.book)).build is not None


async def list_movements(request: Request) -> Response:
    """Answer how worth moved in each interval of a range of UTC days; with ``detail``, by which single movements."""
    policy, sealed = policy_parameter(request), wants_sealed(request)
    customer = identifier_parameter(request, "customer")
    detail = flag_parameter(request, "detail")
    limit, after = page_parameters(request, datetime, str, str, default=MAX_LIMIT)
    serving = services(request)
    asked = await asked_by(request, SCOPE)
    bounds = bounds_of(request, asked.now)
    if customer is None:
        asked = await build_or_close(request, asked, bounds.end - _INSTANT)
    wanted = Wanted(asked.book, policy, bounds, customer, asked.as_of or datetime.max.replace(tzinfo=UTC))

    async def read(connection: asyncpg.Connection) -> Reported:
        known = await _recalled(connection, serving, asked, wanted)
        return await _moved(
            connection, serving, asked, wanted, known, sealed=sealed, detail=limit + 1 if detail else 0, after=after
        )

    found = as_known(asked, await read_build(serving, serving.revenue.name, asked, read))
    single = found.value.single
    content: dict[str, Any] = {
        "policy": policy,
        "basis": basis_json(is_sealed=found.value.is_sealed),
        "intervals": [interval_json(one) for one in found.value.moved],
    }
    if detail:
        page, cursor = page_of(single, limit, lambda one: (one.at, one.customer, one.currency))
        content["movements"] = [movement_json(one, asked.as_of or asked.now) for one in page]
        content["next_cursor"] = cursor
    return answer(asked, content, found)


async def explain_movement(request: Request) -> Response:
    """Explain a movement: what each of its subscriptions was worth before and after, and the events behind that."""
    customer, currency, at = movement_parameter(request)
    policy, sealed, serving = policy_parameter(request), wants_sealed(request), services(request)
    asked = await asked_by(request, SCOPE)

    async def read(connection: asyncpg.Connection) -> tuple[MovementRow, list[SpanRow]]:
        bounds = Bounds(at, at + timedelta(seconds=1))
        wanted = Wanted(asked.book, policy, bounds, customer, asked.as_of or datetime.max.replace(tzinfo=UTC))
        known = await _recalled(connection, serving, asked, wanted)
        named = await _named(connection, serving, asked, wanted, known, currency, sealed=sealed)
        if named is None:
            raise Problem(404, f"there is no movement {request.query_params['movement']} in {asked.book}")
        return named, known.about(named) if known else await read_spans(connection, named)

    found = as_known(asked, await read_build(serving, serving.revenue.name, asked, read))
    movement, spans = found.value
    because = sorted({event for one in spans for event in one.because} | set(movement.because))
    content = {
        **movement_json(movement, asked.as_of or asked.now),
        "policy": policy,
        "worth": [span_json(one) for one in spans],
        "events": await events_json(request, asked, because),
    }
    return answer(asked, content, found)


async def _recalled(connection: asyncpg.Connection, serving: Services, asked: Asked, wanted: Wanted) -> Known | None:
    """Return what was known of a customer, where that is folded now: no build was kept that holds it."""
    if asked.known is None or asked.build is not None or wanted.customer is None:
        return None
    return await read_known(connection, serving.revenue, wanted, asked.known)


async def _moved(
    connection: asyncpg.Connection,
    serving: Services,
    asked: Asked,
    wanted: Wanted,
    known: Known | None,
    *,
    sealed: bool,
    detail: int,
    after: Place | None,
) -> Reported:
    """Return how worth moved: as closes account for it, or as it is."""
    movements = AsKnown(known) if known else OfBuild(connection)
    if not sealed or not honours_closes(asked):
        return await as_they_are(movements, wanted, detail=detail, after=after)
    return await read_reported(
        connection,
        serving.revenue.name,
        asked.build,
        wanted,
        known=asked.known,
        detail=detail,
        after=after,
        movements=movements,
    )


async def _named(
    connection: asyncpg.Connection,
    serving: Services,
    asked: Asked,
    wanted: Wanted,
    known: Known | None,
    currency: str,
    *,
    sealed: bool,
) -> MovementRow | None:
    """Return a movement as it is reported, else as it is: that one knows of which subscriptions it is."""

    async def find(*, sealed: bool) -> MovementRow | None:
        found = await _moved(connection, serving, asked, wanted, known, sealed=sealed, detail=MAX_LIMIT, after=None)
        return next((one for one in found.single if one.currency == currency), None)

    reported, so = await find(sealed=sealed), await find(sealed=False)
    if reported is None or (so is not None and _change(reported) == _change(so)):
        return so
    return reported


def _change(one: MovementRow) -> tuple[str, int, int]:
    return (one.kind, one.before, one.after)


def movement_parameter(request: Request) -> tuple[str, str, datetime]:
    """Read a movement's name: whose, in what, when."""
    parts = request.query_params["movement"].split(":", 2)
    try:
        customer, currency, at = parts[0], parts[1], parse_rfc3339(parts[2].replace(" ", "+"))
    except (IndexError, ValueError, OverflowError) as error:
        raise Problem(400, "a movement is named like cus_1:usd:2026-01-15T12:00:00Z") from error
    if not IDENTIFIER.fullmatch(customer):
        raise Problem(400, "a movement is named like cus_1:usd:2026-01-15T12:00:00Z")
    return customer, currency, at


def span_json(one: SpanRow) -> dict[str, Any]:
    """Write what a subscription was worth for a time."""
    return {
        "subscription": one.subscription,
        "from": rfc3339(one.since),
        "to": time_json(one.until),
        "currency": one.currency,
        "mrr_gross": one.gross,
        "mrr_net_forever": one.net_forever,
        "mrr_net_all": one.net_all,
        "items": [
            {"item": item, "product": product or None, "mrr_net_forever": amount}
            for item, product, amount in zip(one.items, one.products, one.item_amounts, strict=True)
        ],
        "reason": one.reason or None,
        "flags": list(one.flags),
        "incomplete": list(one.incomplete),
        "because": list(one.because),
    }


async def events_json(request: Request, asked: Asked, because: list[str]) -> list[dict[str, Any]]:
    """Write the events that an answer rests on, from the log."""
    async with services(request).pool.acquire() as connection:
        rows = await connection.fetch(EVENTS, asked.book, because)
    return [{"id": row["event_id"], "type": row["type"], "created": rfc3339(row["created"])} for row in rows]


EVENTS: Final = """
SELECT e.event_id, e.type, e.created
FROM ledger.event_key AS k
JOIN ledger.event AS e ON e.stream_id = k.stream_id AND e.position = k.position
WHERE k.book = $1 AND k.event_id = ANY ($2)
ORDER BY e.created, e.event_id
"""
"""The events that answers name, from the log."""


def interval_json(one: Moved) -> dict[str, Any]:
    """Write one interval in one currency."""
    return {
        "from": rfc3339(one.since),
        "to": rfc3339(one.until),
        "currency": one.currency,
        "opening": one.opening,
        **one.by_kind,
        "closing": one.closing,
    }


def movement_json(one: MovementRow, at: datetime) -> dict[str, Any]:
    """Write one movement, as it is known at a moment whether it was paid."""
    return {
        "movement": movement_id(one),
        "customer": one.customer,
        "at": time_json(one.at),
        "currency": one.currency,
        "kind": one.kind,
        "amount": one.amount,
        "before": one.before,
        "after": one.after,
        "paid": one.paid_at is not None and one.paid_at <= at,
        "reason": one.reason,
        "involuntary": one.involuntary,
        "subscriptions": list(one.subscriptions),
        "because": list(one.because),
    }


def movement_id(one: MovementRow) -> str:
    """Name a movement: whose, in what, when."""
    return f"{one.customer}:{one.currency}:{rfc3339(one.at)}"


def policy_parameter(request: Request) -> Policy:
    """Return the named policy that is asked for, by default Stripe's own. Raises 400 for one there is not."""
    name = request.query_params.get("policy", "published")
    if name == "published":  # what a catalog publishes says nothing of worth: it is Stripe's own
        return POLICIES[0]
    if name not in POLICIES:
        raise Problem(400, f"policy must be one of {', '.join(POLICIES)}")
    return name


def flag_parameter(request: Request, name: str) -> bool:
    """Return a parameter that is true or false; false where it is not given."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise Problem(400, f"{name} must be true or false")
    return text == "true"


def bounds_of(request: Request, now: datetime) -> Bounds:
    """Return the range of UTC days that is asked for: by default the twelve months up to the present one's end."""
    interval = request.query_params.get("interval", "month")
    if interval not in INTERVALS:
        raise Problem(400, f"interval must be one of {', '.join(INTERVALS)}")
    end = day_parameter(request, "to") or month_after(now)
    start = day_parameter(request, "from") or month_start(month_of(earlier(end, timedelta(days=360))))
    bounds = Bounds(start, end, interval)
    if start >= end:
        raise Problem(400, "from must be before to")
    if bounds.about > MAX_INTERVALS:
        raise Problem(400, f"that is more than {MAX_INTERVALS} intervals: ask for fewer days or longer intervals")
    return bounds


def day_parameter(request: Request, name: str) -> datetime | None:
    """Return a day's first instant in UTC: ``2026-02``, ``2026-02-01`` or a time that is midnight in UTC."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        day = parse_rfc3339(f"{text}-01" if re.fullmatch(r"[0-9]{4}-[0-9]{2}", text) else text.replace(" ", "+"))
    except (ValueError, OverflowError) as error:
        raise Problem(400, f"{name} is not a month, a day or an RFC 3339 time: {error}") from error
    if (day.hour, day.minute, day.second, day.microsecond) != (0, 0, 0, 0):
        raise Problem(400, f"{name} must be midnight in UTC: movements are summed over whole days")
    return day
