"""The books: trial balance, journal down to the events, what is owed, the tie-out, and what does not add up."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Final

from starlette.responses import Response

from api.console import charts
from api.console.charts import Chart
from api.console.frame import Page, Part, Visit, render
from api.console.picks import given, in_order, month_picked, read_picks
from api.console.revenue import SCOPES
from api.problems import Problem
from projections.periods.months import is_month, month_after, month_of
from projections.revenue.accounts import CLASSES

_ENTRIES: Final = 50
_OWING: Final = 200
_PROBLEMS: Final = 500

_BUCKETS: Final = {
    "current": "Not due", "1_30": "1 to 30 days", "31_60": "31 to 60 days", "61_90": "61 to 90 days",
    "over_90": "Over 90 days",
}  # fmt: skip

Json = dict[str, Any]


async def show_trial_balance(visit: Visit) -> Response:
    """Show what every account comes to in every currency, or has changed by since a month."""
    picks = read_picks(visit)
    since = given(visit, "since")
    balances = await visit.part("/v1/revenue/trial-balance", policy=picks.policy, basis=picks.basis, **{"from": since})
    found: dict[str, dict[str, int]] = balances.content["balances"] if balances.shown else {}
    currencies = [one for one in found if picks.currency in (None, one)]
    accounts = [name for name in CLASSES if any(found[currency].get(name) for currency in currencies)]
    return render(
        visit,
        "trial_balance.html",
        picks=picks,
        since=since,
        currencies=in_order(found),
        shown=currencies,
        balances=balances,
        found=found,
        accounts=accounts,
        heads=["Account and class", *((currency.upper(), "n") for currency in currencies)],
        totals={currency: sum(found[currency].values()) for currency in currencies},
    )


async def show_journal(visit: Visit) -> Response:
    """List entries with their postings and events.

    What changed in closed months stands in the first open one, and waits to be asked for.
    """
    picks = read_picks(visit)
    entry = given(visit, "entry")
    present = None if entry else month_of(visit.as_of or visit.now)
    until = given(visit, "until") or present
    since = given(visit, "since") or until
    journal = await visit.part(
        "/v1/revenue/journal",
        policy=picks.policy,
        basis=picks.basis,
        customer=given(visit, "customer"),
        account=given(visit, "account"),
        entry=entry,
        prior_period=bool(given(visit, "customer") or entry or given(visit, "prior")),
        cursor=given(visit, "cursor"),
        limit=_ENTRIES,
        **{"from": since, "to": until and _after(until)},
    )
    return render(
        visit,
        "journal.html",
        picks=picks,
        journal=journal,
        debits=_debits(journal.content["data"] if journal.shown else []),
        since=since,
        until=until,
        accounts=list(CLASSES),
    )


async def show_entry(visit: Visit) -> Response:
    """Show one entry, or all that became of an invoice's line: the postings, and why, down to the events."""
    picks = read_picks(visit)
    explained = await visit.ask(
        "/v1/revenue/explain",
        policy=picks.policy,
        basis=picks.basis,
        entry=given(visit, "entry"),
        line=given(visit, "line"),
        customer=given(visit, "customer"),
    )
    name = explained.get("entry") or explained["line"]
    debits = _debits(explained["entries"])
    return render(visit, "entry.html", picks=picks, explained=Part(explained), name=name, debits=debits)


def _after(until: str) -> str:
    """Return the first day or month that is no longer meant by ``until``."""
    if is_month(until):
        return month_after(until)
    try:
        return (date.fromisoformat(until) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError) as error:
        raise Problem(400, "until must be a month or a day such as 2026-03-31") from error


def _debits(entries: list[Json]) -> dict[str, int]:
    """Return what each entry comes to on its debit side."""
    return {one["entry"]: sum(max(line["amount"], 0) for line in one["lines"]) for one in entries}


async def show_ageing(visit: Visit) -> Response:
    """Show what is owed, for how long it has been due, and by whom, the largest first."""
    picks = read_picks(visit)
    ageing = await visit.part("/v1/revenue/ageing")
    found: dict[str, Json] = ageing.content["currencies"] if ageing.shown else {}
    currency = picks.one_of(list(found))
    owing = sorted(found.get(currency or "", {}).get("data", ()), key=lambda one: -one["total"])
    return render(
        visit,
        "ageing.html",
        picks=picks,
        ageing=ageing,
        currencies=in_order(found),
        currency=currency,
        found=found,
        buckets=list(_BUCKETS),
        heads=[(title, "n") for title in (*_BUCKETS.values(), "Total")],
        owing=owing[:_OWING],
        more=len(owing[_OWING:]),
    )


async def show_tie_out(visit: Visit) -> Response:
    """Show how MRR, recognised revenue and cash of one month hang together, with a name for every difference."""
    picks = read_picks(visit)
    month = month_picked(visit, "month", month_after(month_of(visit.as_of or visit.now), -1))
    tied = await visit.part("/v1/revenue/tie-out", month=month, policy=picks.worth, basis=picks.basis)
    found: dict[str, Json] = tied.content["currencies"] if tied.shown else {}
    currency = picks.one_of(list(found))
    one = found.get(currency or "")
    return render(
        visit,
        "tie_out.html",
        picks=picks,
        month=month,
        tied=tied,
        currencies=in_order(found),
        currency=currency,
        bridge=None if one is None or currency is None else _bridge(one, month, currency),
    )


async def show_problems(visit: Visit) -> Response:
    """List what does not add up or is not known yet."""
    problems = await visit.part("/v1/revenue/problems", limit=_PROBLEMS, cursor=visit.query("cursor") or None)
    return render(visit, "problems.html", problems=problems)


def _bridge(one: Json, month: str, currency: str) -> Chart:
    def steps(between: str) -> charts.Steps:
        return [
            (each["class"].replace("_", " ").capitalize(), each["amount"], "change")
            for each in one["differences"]
            if each["between"] == between
        ]

    whole: charts.Steps = [
        ("MRR", one["mrr"], "total"),
        *steps("mrr_and_recognized"),
        ("Recognised", one["recognized"], "total"),
        *steps("recognized_and_cash"),
        ("Cash", one["cash"], "total"),
    ]
    return charts.waterfall(f"From MRR to revenue to cash in {month}, {currency.upper()}", whole, currency=currency)


PAGES = (
    Page("/revenue/trial-balance", show_trial_balance, SCOPES, sample="/revenue/trial-balance"),
    Page("/revenue/journal", show_journal, SCOPES, sample="/revenue/journal"),
    Page("/revenue/entry", show_entry, SCOPES),
    Page("/revenue/ageing", show_ageing, SCOPES, sample="/revenue/ageing"),
    Page("/revenue/tie-out", show_tie_out, SCOPES, sample="/revenue/tie-out"),
    Page("/revenue/problems", show_problems, SCOPES, sample="/revenue/problems"),
)
