"""What recurs and what was earned: MRR and how it moved, revenue by month, the roll-forward of what is deferred."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from api.console import charts
from api.console.charts import Chart
from api.console.frame import Page, Part, Visit, render
from api.console.picks import given, in_order, read_picks

SCOPES: Final = ("revenue:read",)
UPWARDS: Final = ("new", "reactivation", "expansion")
DOWNWARDS: Final = ("contraction", "churn")

_MOVEMENTS: Final = 100

Json = dict[str, Any]


async def show(visit: Visit) -> Response:
    """Show what recurs now, how it moved month by month, and what was earned in each."""
    picks = read_picks(visit)
    months = {"from": picks.first, "to": picks.until, "basis": picks.basis}
    mrr, movements, recognition = await asyncio.gather(
        visit.part("/v1/revenue/mrr", policy=picks.worth, basis=picks.basis),
        visit.part("/v1/revenue/mrr/movements", policy=picks.worth, **months),
        visit.part("/v1/revenue/recognition", policy=picks.policy, **months),
    )
    currencies = in_order([*_worth(mrr), *(one["currency"] for one in _intervals(movements)), *_earning(recognition)])
    currency = picks.one_of(_largest_first(mrr)) or picks.one_of(currencies)
    intervals = [one for one in _intervals(movements) if one["currency"] == currency]
    earned = earned_in(recognition, currency)
    return render(
        visit,
        "revenue.html",
        picks=picks,
        currencies=currencies,
        currency=currency,
        mrr=mrr,
        movements=movements,
        intervals=intervals,
        waterfall=_waterfall(intervals, currency),
        recognition=recognition,
        earned=earned,
        earnings=_earnings(earned, currency),
    )


async def show_recognition(visit: Visit) -> Response:
    """Show the roll-forward of what is deferred, and when asked in which month what each month's invoices was earned.

    That reads every entry of these months, and so it waits to be asked for.
    """
    picks = read_picks(visit)
    detail = "waterfall" if visit.query("detail") == "waterfall" else None
    recognition = await visit.part(
        "/v1/revenue/recognition",
        detail=detail,
        memo=False,
        policy=picks.policy,
        basis=picks.basis,
        **{"from": picks.first, "to": picks.until},
    )
    currencies = in_order(_earning(recognition))
    currency = picks.one_of(currencies)
    falls = falls_in(recognition, currency)
    return render(
        visit,
        "recognition.html",
        picks=picks,
        currencies=currencies,
        currency=currency,
        recognition=recognition,
        earned=earned_in(recognition, currency),
        detail=detail,
        falls=falls,
        heads=["Invoiced", *((month, "n") for month in picks.months)],
        totals=[sum(amounts.get(month, 0) for _, amounts in falls) for month in picks.months],
    )


async def show_movements(visit: Visit) -> Response:
    """List the single movements of MRR: whose, why, and because of which events."""
    picks = read_picks(visit)
    movements = await visit.part(
        "/v1/revenue/mrr/movements",
        detail=True,
        policy=picks.worth,
        basis=picks.basis,
        customer=given(visit, "customer"),
        cursor=given(visit, "cursor"),
        limit=_MOVEMENTS,
        **{"from": picks.first, "to": picks.until},
    )
    return render(visit, "movements.html", picks=picks, movements=movements)


def earned_in(recognition: Part, currency: str | None) -> list[tuple[str, Json]]:
    """Return each month's revenue in one currency."""
    months = recognition.content["months"] if recognition.shown else {}
    return [(month, by_currency[currency]) for month, by_currency in months.items() if currency in by_currency]


def falls_in(recognition: Part, currency: str | None) -> list[tuple[str, dict[str, int]]]:
    """Return one currency's revenue by month of invoice, and within it by month of service."""
    found: dict[str, dict[str, int]] = {}
    for one in recognition.content.get("waterfall", ()) if recognition.shown else ():
        if one["currency"] == currency:
            found.setdefault(one["invoiced"], {})[one["recognized"]] = one["amount"]
    return sorted(found.items())


def _waterfall(intervals: Sequence[Json], currency: str | None) -> Chart | None:
    if not intervals or currency is None:
        return None
    moved = {kind: sum(one[kind] for one in intervals) for kind in (*UPWARDS, *DOWNWARDS)}
    steps: charts.Steps = [
        ("Opening", intervals[0]["opening"], "total"),
        *((kind.capitalize(), moved[kind], "change") for kind in UPWARDS),
        *((kind.capitalize(), -moved[kind], "change") for kind in DOWNWARDS),
        ("Closing", intervals[-1]["closing"], "total"),
    ]
    title = f"MRR from {intervals[0]['from'][:7]} through {intervals[-1]['from'][:7]}, {currency.upper()}"
    return charts.waterfall(title, steps, currency=currency)


def _earnings(earned: Sequence[tuple[str, Json]], currency: str | None) -> Chart | None:
    if not earned or currency is None:
        return None
    series = {
        "Net revenue": [one["net_revenue"] for _, one in earned],
        "Given back": [sum(one["contra"].values()) for _, one in earned],
    }
    title = f"Revenue earned in each month, {currency.upper()}"
    return charts.columns(title, [month for month, _ in earned], series, currency=currency)


def _worth(mrr: Part) -> Mapping[str, Json]:
    found: Mapping[str, Json] = mrr.content["mrr"] if mrr.shown else {}
    return found


def _largest_first(mrr: Part) -> list[str]:
    """Return the currencies that something recurs in, the one with the most customers first."""
    worth = _worth(mrr)
    return sorted(worth, key=lambda currency: (-worth[currency]["customers"], currency))


def _intervals(movements: Part) -> list[Json]:
    found: list[Json] = movements.content["intervals"] if movements.shown else []
    return found


def _earning(recognition: Part) -> set[str]:
    months = recognition.content["months"] if recognition.shown else {}
    return {currency for by_currency in months.values() for currency in by_currency}


PAGES = (
    Page("/revenue", show, SCOPES, nav="Revenue", sample="/revenue"),
    Page("/revenue/movements", show_movements, SCOPES, sample="/revenue/movements"),
    Page("/revenue/recognition", show_recognition, SCOPES, sample="/revenue/recognition"),
)
