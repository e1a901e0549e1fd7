"""``/v1/revenue/journal``, ``explain`` and ``ageing``: single entries, why they exist, and what is still owed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.basis import Reporting, basis_json, build_or_close
from api.mrr import events_json, explain_movement
from api.parameters import MAX_LIMIT, bound_parameter, identifier_parameter
from api.problems import Problem
from api.reads import (
    DEFAULT_LIMIT,
    Asked,
    answer,
    as_known,
    asked_by,
    page_of,
    page_parameters,
    page_through,
    read_build,
    time_json,
)
from api.revenue import SCOPE, Whose, policy_name, policy_parameter, read_books, seconds_of
from ledger.times import rfc3339
from projections.revenue.accounts import CLASSES
from projections.revenue.documents import time_of
from projections.revenue.journal import Books
from projections.revenue.owed import Owed
from projections.revenue.pages import Wanted, owners_of
from projections.revenue.schedule import month_name
from projections.revenue.shown import DIMENSIONS, Shown, grouped, place_of

_BUCKETS: Final = ((0, "current"), (30, "1_30"), (60, "31_60"), (90, "61_90"))
_OLDEST: Final = "over_90"


async def list_journal(request: Request) -> Response:
    """List entries, or with ``group_by`` their sums; a recognition entry shows the part earned up to ``to``.

    ``prior_period=false`` leaves out later changes of closed months, and says when those are posted.
    """
    policy = policy_parameter(request)
    customer = identifier_parameter(request, "customer")
    by = _dimensions(request)
    kinds = [str, *[str for _ in by]] if by else [int, str]
    limit, after = page_parameters(request, *kinds, default=MAX_LIMIT if by else DEFAULT_LIMIT)
    asked = await asked_by(request, SCOPE)
    wanted = _wanted(request, asked, customer)
    if policy is None and not _OF_FEW & request.query_params.keys():
        asked = await build_or_close(request, asked, time_of(wanted.until))
    page: Page | None = None if by else (after, limit)
    reporting = Reporting(request, asked)
    found = await read_books(
        request,
        asked,
        policy,
        lambda connection: _read(connection, wanted, page, reporting),
        lambda made: _chosen(made, wanted, page, reporting),
        _whose(wanted, None if policy else reporting),
    )
    found = as_known(asked, found)
    entries = found.value
    content: dict[str, Any] = {"policy": policy_name(policy), "basis": basis_json(is_sealed=reporting.is_sealed)}
    content["left_out_at"] = time_json(reporting.left_out_at)
    if by:
        # Every page needs all of them summed.
        sums = grouped(entries, by, {one.entry: month_name(one.at) for one in entries})
        some, cursor = page_through(request, sums, lambda row: place_of(row, by), *kinds)
        content |= {"group_by": by, "data": some, "next_cursor": cursor}
    else:
        shown, cursor = page_of(entries, limit, lambda one: (one.at, one.entry))
        content |= {"data": [entry_json(one) for one in shown], "next_cursor": cursor}
    return answer(asked, content, found)


async def explain(request: Request) -> Response:
    """Explain an entry, or everything that happened to an invoice line, down to the events."""
    entry, line = identifier_parameter(request, "entry"), identifier_parameter(request, "line")
    if "movement" in request.query_params and entry is None and line is None:
        return await explain_movement(request)
    if (entry is None) == (line is None):
        raise Problem(400, "name an entry, a line or a movement")
    policy = policy_parameter(request)
    customer = identifier_parameter(request, "customer")
    asked = await asked_by(request, SCOPE)
    until = seconds_of(asked.as_of) if asked.as_of else _LAST
    wanted = Wanted(asked.book, 0, until, customer, None, entry, line)
    reporting = Reporting(request, asked)
    found = await read_books(
        request,
        asked,
        policy,
        lambda connection: reporting.named(connection, wanted),
        lambda made: _chosen(made, wanted, None, reporting),
        _whose(wanted, None if policy else reporting),
    )
    if not found.value:
        raise Problem(404, f"there is no {'entry' if entry else 'line'} {entry or line} in {asked.book}")
    because = sorted({event for one in found.value for event in one.because})
    content: dict[str, Any] = {
        "entry" if entry else "line": entry or line,
        "policy": policy_name(policy),
        "entries": [entry_json(one) for one in found.value],
        "because": because,
        "events": await events_json(request, asked, because),
    }
    return answer(asked, content, found)


async def get_ageing(request: Request) -> Response:
    """Answer what is owed and for how long it has been due, in all and by customer."""
    serving = services(request)
    asked = await asked_by(request, SCOPE)
    at = time_of(seconds_of(asked.as_of or asked.now))
    asked = await build_or_close(request, asked, at)
    reporting = Reporting(request, asked)

    async def rows(connection: asyncpg.Connection) -> list[Owed]:
        return await reporting.receivable(connection, at)

    found = as_known(asked, await read_build(serving, serving.revenue.name, asked, rows))
    content: dict[str, Any] = {
        "at": rfc3339(at),
        "basis": basis_json(is_sealed=reporting.is_sealed),
        "currencies": ageing_json(found.value, at),
    }
    return answer(asked, content, found)


def ageing_json(owed: list[Owed], at: datetime) -> dict[str, Any]:
    """Sort what is owed into buckets by currency, and again by customer."""
    found: dict[str, Any] = {}
    for one in owed:
        whole = found.setdefault(one.currency, {"buckets": _empty(), "total": 0, "data": {}})
        customer = whole["data"].setdefault(one.customer, {"customer": one.customer, "buckets": _empty(), "total": 0})
        for into in (whole, customer):
            into["buckets"][_bucket(one, at)] += one.amount
            into["total"] += one.amount
    for whole in found.values():
        whole["data"] = list(whole["data"].values())
    return dict(sorted(found.items()))


def _empty() -> dict[str, int]:
    return {**{name: 0 for _, name in _BUCKETS}, _OLDEST: 0}


def _bucket(one: Owed, at: datetime) -> str:
    days = (at - one.due).total_seconds() / 86_400 if one.due else 0
    return next((name for most, name in _BUCKETS if days <= most), _OLDEST)


def entry_json(one: Shown) -> dict[str, Any]:
    """Write an entry as the contract has it."""
    return {
        "entry": one.entry,
        "at": rfc3339(time_of(one.at)),
        "customer": one.customer,
        "kind": one.kind,
        "currency": one.currency,
        "original_month": one.original_month or month_name(one.at),
        "lines": [line._asdict() for line in one.lines],
        "because": list(one.because),
    }


Page = tuple[tuple[Any, ...] | None, int]
"""After which entry, and how many (one more tells that there are more)."""

_LAST: Final = 2**33
_OF_FEW: Final = {"customer", "entry", "line"}
"""What a request may name whose books are then folded for it, where it asks for what was known."""


def _whose(wanted: Wanted, reporting: Reporting | None) -> Whose | None:
    """Tell how to find whose books are asked about, where they are one customer's, or those of an entry or a line.

    Closes cover the published policies only, and so does what is reported from them.
    """
    name = wanted.entry or wanted.line

    async def owners(connection: asyncpg.Connection) -> list[str]:
        if wanted.customer is not None:
            found = [f"{wanted.book}/{wanted.customer}"]
        else:
            found = await owners_of(connection, wanted.book, name or "")
        return await reporting.recall(connection, wanted, found) if reporting else found

    return None if wanted.customer is None and name is None else owners


def _wanted(request: Request, asked: Asked, customer: str | None) -> Wanted:
    since, until = bound_parameter(request, "from"), bound_parameter(request, "to")
    last = seconds_of(asked.as_of or asked.now)
    if until is not None:
        last = min(last, seconds_of(until) - 1) if asked.as_of else seconds_of(until) - 1
    account = request.query_params.get("account")
    if account is not None and account not in CLASSES:
        raise Problem(400, f"there is no account {account}: there are {', '.join(CLASSES)}")
    entry = identifier_parameter(request, "entry")
    prior = request.query_params.get("prior_period") != "false"
    return Wanted(asked.book, seconds_of(since) if since else 0, last, customer, account, entry, prior=prior)


def _dimensions(request: Request) -> list[str]:
    text = request.query_params.get("group_by")
    by = text.split(",") if text else []
    if wrong := [name for name in by if name not in DIMENSIONS]:
        raise Problem(400, f"journals are not grouped by {', '.join(wrong)}: there are {', '.join(DIMENSIONS)}")
    return list(dict.fromkeys(by))


async def _read(connection: asyncpg.Connection, wanted: Wanted, page: Page | None, reporting: Reporting) -> list[Shown]:
    after, limit = page or (None, 0)
    begin = wanted
    if after is not None:
        begin = replace(wanted, since=max(wanted.since, min(after[0], wanted.until)), after=(after[0], after[1]))
    if begin.entry is not None:
        return [one for one in await reporting.named(connection, begin) if after is None or (one.at, one.entry) > after]
    found: list[Shown] = []
    async for some in reporting.journal(connection, begin):
        found += [one for one in some if after is None or (one.at, one.entry) > after]
        if page is not None and len(found) > limit:
            break
    return found


def _chosen(made: list[Books], wanted: Wanted, page: Page | None, reporting: Reporting) -> list[Shown]:
    after, limit = page or (None, 0)
    theirs = [one for one in made if wanted.customer in {None, one.facts.subject.key}]
    found = [one for one in reporting.recalled(theirs, wanted) if after is None or (one.at, one.entry) > after]
    return found[: limit + 1] if page is not None else found
