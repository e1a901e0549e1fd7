"""``/v1/revenue/tie-out``: from MRR to recognised revenue to cash, with a name for every difference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.basis import Reporting, basis_json, wants_sealed
from api.mrr import SCOPE, policy_parameter, read_sealed_totals
from api.problems import Problem
from api.reads import answer, asked_by, build_for, read_build
from projections.builds import enter_build
from projections.mrr.worth import Policy
from projections.periods.bridge import Bridge, read_bridge
from projections.periods.months import is_month, month_end, month_start
from projections.periods.tie_out import Earned, TieOut, tie_out
from projections.revenue.query import Sums

_SECOND: Final = timedelta(seconds=1)


async def get_tie_out(request: Request) -> Response:
    """Tie one month out in every currency; a closed one as it was sealed, with what is known now beside it."""
    month = request.query_params.get("month", "")
    if not is_month(month):
        raise Problem(400, "name a month such as 2026-01: month=2026-01")
    serving, policy = services(request), policy_parameter(request)
    asked = await build_for(serving, serving.revenue.name, await asked_by(request, SCOPE))
    start, end = month_start(month), month_end(month)
    reporting, sealed = Reporting(request, asked), wants_sealed(request)

    async def read(connection: asyncpg.Connection) -> dict[str, TieOut]:
        now, reported = await reporting.month(connection, month)
        worth = await read_sealed_totals(connection, asked, end - _SECOND, policy) if sealed else None
        fresh = await enter_build(connection, serving.revenue.name, asked.book, asked.build)
        bridge = await read_bridge(connection, fresh.version, asked.book, policy, start, end)
        mrr = bridge.worth if worth is None else {one.currency: one.total for one in worth}
        return _tied(mrr, bridge, policy, now, reported)

    found = await read_build(serving, serving.revenue.name, asked, read)
    content = {
        "month": month,
        "policy": policy,
        "basis": basis_json(is_sealed=reporting.is_sealed),
        "currencies": {currency: tie_out_json(one) for currency, one in found.value.items()},
    }
    return answer(asked, content, found)


def _tied(mrr: Mapping[str, int], bridge: Bridge, policy: Policy, now: Sums, change: Sums) -> dict[str, TieOut]:
    counted = bridge.average if policy == "stripe-2026" else bridge.discounted
    currencies = sorted({*mrr, *bridge.average, *bridge.earned, *now, *change})
    return {
        currency: tie_out(
            mrr.get(currency, 0),
            counted.get(currency, Fraction(0)),
            bridge.discounted.get(currency, Fraction(0)),
            bridge.earned.get(currency, Earned(0, 0, 0)),
            now.get(currency, {}),
            change.get(currency, {}),
        )
        for currency in currencies
    }


def tie_out_json(one: TieOut) -> dict[str, Any]:
    """Write one currency's tie-out."""
    return {
        "mrr": one.mrr,
        "recognized": one.recognized,
        "cash": one.cash,
        "differences": [
            {"class": each.name, "between": each.between, "amount": each.amount} for each in one.differences
        ],
    }
