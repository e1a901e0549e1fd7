"""``/v1/revenue``: the trial balance and recognised revenue, at any moment and under any named policy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.basis import Reporting, basis_json, build_or_close
from api.parameters import MAX_LIMIT, bound_parameter, time_parameter
from api.problems import Problem
from api.reads import (
    Asked,
    Found,
    answer,
    as_known,
    asked_by,
    build_for,
    fresh_as_known,
    page_of,
    page_parameters,
    read_build,
)
from ledger.times import rfc3339
from projections.builds import enter_build
from projections.revenue import pages, query
from projections.revenue.accounts import CLASSES, CONTRA
from projections.revenue.documents import time_of
from projections.revenue.journal import Books
from projections.revenue.policy import POLICIES, Policy
from projections.revenue.schedule import month_of, month_start
from projections.revenue.shown import balances_json, natural, sums_of
from projections.revenue.sums import RELEASES
from projections.revenue.unpaid import unpaid_of

SCOPE: Final = "revenue:read"
T = TypeVar("T")
Whose = Callable[[asyncpg.Connection], Awaitable[list[str]]]
"""Finds the subjects that a request is about, where they are few, and reads what else is told of them."""

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_MONTHS_AT_MOST: Final = 240
_PUBLISHED: Final = "published"
_FIRST: Final = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LAST_MONTH: Final = date(9999, 12, 1)
_LAST: Final = int(datetime(9999, 12, 1, tzinfo=UTC).timestamp()) - 1
_FOLD_AT_MOST: Final = 2_000
"""Subjects that a request may fold anew, for a policy that is not the published one."""


async def get_trial_balance(request: Request) -> Response:
    """Answer with what every account comes to at a moment, or has changed by since another."""
    asked, policy = await _asked(request, None)
    at = seconds_of(asked.as_of or asked.now)
    since = bound_parameter(request, "from")
    start = None if since is None else seconds_of(since)
    reporting = Reporting(request, asked)

    async def rows(connection: asyncpg.Connection) -> query.Sums:
        found = await reporting.balances(connection, at)
        if start is not None and start > _FIRST:
            for currency, amounts in (await reporting.balances(connection, start - 1)).items():
                for name, amount in amounts.items():
                    found[currency][name] = found.get(currency, {}).get(name, 0) - amount
        return found

    def anew(made: list[Books]) -> query.Sums:
        return sums_of(made, 0 if start is None else start, at)

    found = as_known(asked, await read_books(request, asked, policy, rows, anew))
    content: dict[str, Any] = {"at": rfc3339(time_of(at)), "policy": policy_name(policy)}
    content["basis"] = basis_json(is_sealed=reporting.is_sealed)
    if since is not None:
        content["from"] = rfc3339(since)
    # Sums also hold what only reports need: leave out a currency whose accounts are all 0.
    shown = {currency: balances_json(amounts) for currency, amounts in sorted(found.value.items())}
    content["balances"] = {currency: amounts for currency, amounts in shown.items() if any(amounts.values())}
    content["classes"] = CLASSES
    return answer(asked, content, found)


async def get_recognition(request: Request) -> Response:
    """Answer with each month's revenue and the roll-forward of what is deferred; months to come are as planned.

    The memo of a waterfall takes every invoice that was owed at the end of each month: ``memo=false`` leaves it out.
    """
    first, until = month_range(request, services(request).clock())
    detail = request.query_params.get("detail")
    if detail not in (None, "waterfall"):
        raise Problem(400, "detail may only be waterfall")
    asked, policy = await (_asked(request, until) if detail is None else asked_of_book(request))
    at = None if asked.as_of is None else seconds_of(asked.as_of)
    start, end = query.seconds(first), query.seconds(until)
    reporting = Reporting(request, asked)

    async def rows(connection: asyncpg.Connection) -> tuple[query.Sums, dict[date, query.Sums]]:
        return await reporting.months(connection, first, until, at)

    def anew(made: list[Books]) -> tuple[query.Sums, dict[date, query.Sums]]:
        months: dict[date, query.Sums] = {}
        month = start
        while month < end and (at is None or month <= at):
            last = month_start(month, 1) - 1
            months[month_of(month)] = sums_of(made, month, last if at is None else min(last, at))
            month = month_start(month, 1)
        return sums_of(made, 0, start - 1), months

    reading = read_books(request, asked, policy, rows, anew)
    if detail is None:
        found, waterfall = as_known(asked, await reading), None
    else:
        upto = end - 1 if at is None else min(end - 1, at)
        found, waterfall = await asyncio.gather(reading, _waterfall(request, asked, policy, start, upto))
    opening, months = found.value
    content: dict[str, Any] = {"policy": policy_name(policy), "basis": basis_json(is_sealed=reporting.is_sealed)}
    content["months"] = roll_forward(opening, months, first, until)
    if waterfall is not None:
        content["waterfall"] = waterfall
    if waterfall is not None and request.query_params.get("memo") != "false":
        for month, unpaid in (await _unpaid(request, asked, policy, start, end, at)).items():
            for currency, one in content["months"][month].items():
                one["deferred_unpaid"] = unpaid.get(currency, 0)
    return answer(asked, content, found)


async def _waterfall(
    request: Request, asked: Asked, policy: Policy | None, since: int, until: int
) -> list[dict[str, Any]]:
    async def rows(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        fresh = await enter_build(connection, services(request).revenue.name, asked.book, asked.build)
        return await query.waterfall(connection, fresh.version, asked.book, since, until)

    def anew(made: list[Books]) -> list[dict[str, Any]]:
        return query.waterfall_of(made, since, until)

    return (await read_books(request, asked, policy, rows, anew)).value


async def _unpaid(
    request: Request, asked: Asked, policy: Policy | None, start: int, end: int, at: int | None
) -> dict[str, dict[str, int]]:
    """Return what was deferred and not paid at the end of each month, or at the moment that is asked about."""
    last: dict[str, int] = {}
    month = start
    while month < end:
        following = month_start(month, 1)
        last[f"{month_of(month):%Y-%m}"] = following - 1 if at is None else min(following - 1, at)
        month = following
    moments = sorted(set(last.values()))
    reporting = Reporting(request, asked)

    async def rows(connection: asyncpg.Connection) -> dict[int, dict[str, int]]:
        return {moment: await reporting.unpaid(connection, moment) for moment in moments}

    def anew(made: list[Books]) -> dict[int, dict[str, int]]:
        return {moment: unpaid_of(made, moment) for moment in moments}

    found = (await read_books(request, asked, policy, rows, anew)).value
    return {name: found[moment] for name, moment in last.items()}


async def get_problems(request: Request) -> Response:
    """List what does not add up or is not known yet, with its amount."""
    policy_parameter(request)  # of the published one: there are no others'
    serving = services(request)
    asked = await build_for(serving, serving.revenue.name, await asked_by(request, SCOPE))
    limit, after = page_parameters(request, datetime, str, str, str, default=MAX_LIMIT)

    async def rows(connection: asyncpg.Connection) -> list[dict[str, Any]]:
        return await query.problems(connection, asked.book, asked.as_of or asked.now, limit + 1, after)

    found = await read_build(serving, serving.revenue.name, asked, rows)
    page, cursor = page_of(found.value, limit, lambda one: (one["at"], one["kind"], one["key"], one["subject"]))
    names = ("kind", "key", "currency", "amount", "at", "because")
    data = [{name: one[name] for name in names} | {"at": rfc3339(one["at"])} for one in page]
    return answer(asked, {"data": data, "next_cursor": cursor}, found)


def roll_forward(
    opening: query.Sums, months: dict[date, query.Sums], first: date, until: date
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return each month's roll-forward, month after month, in every currency that has one."""
    standing = {currency: natural(amounts) for currency, amounts in opening.items()}
    currencies = sorted({*opening, *(currency for sums in months.values() for currency in sums)})
    found: dict[str, dict[str, dict[str, Any]]] = {}
    month = first
    while month < until:
        by_currency: dict[str, dict[str, Any]] = {}
        for currency in currencies:
            change = natural(months.get(month, {}).get(currency, {}))
            before = standing.get(currency, {})
            after = {name: before.get(name, 0) + amount for name, amount in change.items()}
            standing[currency] = after
            by_currency[currency] = _month_json(before, change, after)
        found[f"{month:%Y-%m}"] = by_currency
        month = month_of(month_start(query.seconds(month), 1))
    return found


def _month_json(before: dict[str, int], change: dict[str, int], after: dict[str, int]) -> dict[str, Any]:
    contra = {name: change[name] for name in CONTRA}
    return {
        "billed": change["billed"],
        "recognized": change["recognized"],
        "net_revenue": change["recognized"] - sum(contra.values()),
        "deferred_opening": before.get("deferred", 0),
        "deferred_closing": after["deferred"],
        "unbilled_opening": before.get("unbilled", 0),
        "unbilled_closing": after["unbilled"],
        "released": {cause: change[f"released_{cause}"] for cause in RELEASES},
        "reinstated": change["reinstated"],
        "contra": contra,
        "bad_debt": change["bad_debt"],
        "recoverables": change["recoverables"],
    }


async def _asked(request: Request, until: date | None) -> tuple[Asked, Policy | None]:
    """Read what is asked of a whole book up to a month (None: a moment), which closes may answer for."""
    policy = policy_parameter(request)
    asked = await asked_by(request, SCOPE)
    if policy is None:
        last = time_of(query.seconds(until) - 1) if until is not None else asked.as_of or asked.now
        asked = await build_or_close(request, asked, last)
    return asked, policy


async def asked_of_book(request: Request) -> tuple[Asked, Policy | None]:
    """Read what a read of a whole book is asked for, and under which policy."""
    policy = policy_parameter(request)
    asked = await asked_by(request, SCOPE)
    if policy is None:
        serving = services(request)
        asked = await build_for(serving, serving.revenue.name, asked)
    return asked, policy


async def read_books(
    request: Request,
    asked: Asked,
    policy: Policy | None,
    rows: Callable[[asyncpg.Connection], Awaitable[T]],
    anew: Callable[[list[Books]], T],
    whose: Whose | None = None,
) -> Found[T]:
    """Read a build's rows; under another policy, or for what those of a few were known to be, fold them anew."""
    serving = services(request)
    if policy is None and (whose is None or asked.known is None):
        return await read_build(serving, serving.revenue.name, asked, rows)

    async def fold(connection: asyncpg.Connection) -> list[Books]:
        subjects = await whose(connection) if whose else await _all_subjects(connection, asked)
        until = asked.known if asked.known is not None else await query.position_of(connection, asked.book, asked.build)
        return await pages.fold_books(connection, serving.revenue, asked.book, subjects, policy, until)

    found = await read_build(serving, serving.revenue.name, asked, fold)
    value = await asyncio.to_thread(anew, found.value)
    return replace(Found(value, fresh_as_known(asked, found.freshness)), parked=found.parked, dirty=found.dirty)


async def _all_subjects(connection: asyncpg.Connection, asked: Asked) -> list[str]:
    subjects = await pages.subjects_of(connection, asked.book, _FOLD_AT_MOST + 1)
    if len(subjects) > _FOLD_AT_MOST:
        detail = (
            f"rows are kept for the published policy; {asked.book} is too large to be folded "
            "anew for a request: ask for one customer's journal, or publish the policy and rebuild revenue"
        )
        raise Problem(409, detail, kind="build-required")
    return subjects


def policy_parameter(request: Request) -> Policy | None:
    """Return the named policy that is asked for; None for the published ones, each in its time."""
    name = request.query_params.get("policy", _PUBLISHED)
    if name != _PUBLISHED and name not in POLICIES:
        raise Problem(400, f"policy must be one of {', '.join((_PUBLISHED, *POLICIES))}")
    return POLICIES.get(name)


def policy_name(policy: Policy | None) -> str:
    """Name a policy."""
    return next((name for name, one in POLICIES.items() if one == policy), _PUBLISHED)


def seconds_of(moment: datetime) -> int:
    """Return the second that a moment lies in; of the last month there is, the one before it: reports want the next."""
    return min(int(moment.timestamp() // 1), _LAST)


def month_range(request: Request, now: datetime) -> tuple[date, date]:
    """Return the months that are asked for, the last excluded; by default the present one."""
    present = now.astimezone(UTC).date().replace(day=1)
    first = month_parameter(request, "from") or present
    if first >= _LAST_MONTH:
        raise Problem(400, f"from must be before {_LAST_MONTH:%Y-%m}, the last month there is")
    until = month_parameter(request, "to") or month_of(month_start(query.seconds(first), 1))
    if first >= until:
        raise Problem(400, "from must be before to")
    if (until.year - first.year) * 12 + until.month - first.month > _MONTHS_AT_MOST:
        raise Problem(400, f"ask for at most {_MONTHS_AT_MOST} months")
    return first, until


def month_parameter(request: Request, name: str) -> date | None:
    """Return a month: 2026-03, or its first day or instant."""
    text = request.query_params.get(name)
    if text is None:
        return None
    match = _MONTH.fullmatch(text)
    if match is not None and int(match[1]) > 0:
        return date(int(match[1]), int(match[2]), 1)
    moment = time_parameter(request, name)
    if moment is None or moment != moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0):
        raise Problem(400, f"{name} must be a month such as 2026-03")
    return moment.date()
