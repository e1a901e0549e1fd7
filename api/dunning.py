"""``/v1/dunning`` and ``/v1/customers/{customer}/dunning``: what could not be collected, why, and what is at stake."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from fractions import Fraction
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.parameters import bound_parameter, path_value, read_identifier
from api.problems import Problem
from api.reads import (
    Asked,
    Found,
    answer,
    asked_by,
    build_for,
    customer_in_path,
    fresh_as_known,
    page_of,
    page_parameters,
    page_through,
    read_build,
    time_json,
)
from api.services import Services
from projections.dunning import query
from projections.dunning.case import CaseState, Category
from projections.dunning.query import Board, CustomerDunning, Moment
from projections.dunning.rows import CaseRow, MomentRow
from projections.dunning.standing import Standing
from projections.dunning.summary import Group, Sums, Wanted

SCOPE: Final = "dunning:read"
STATES: Final = get_args(CaseState)
CATEGORIES: Final = get_args(Category)


async def get_customer(request: Request) -> Response:
    """Answer with one customer's cases and what happened to them, each with its event."""
    asked = await asked_by(request, SCOPE)
    customer = customer_in_path(request)
    found = await _read_customer(services(request), asked, customer)
    page, cursor = page_through(request, found.value.cases, _opening, datetime, str)
    content = {
        "customer": customer,
        "data": [case_json(one) for one in page],
        "timeline": [moment_json(one) for one in found.value.timeline],
        "next_cursor": cursor,
    }
    return answer(asked, content, found)


def _opening(one: Standing) -> tuple[datetime, str]:
    return one.case.opened_at, one.case.case_id


async def get_case(request: Request) -> Response:
    """Answer with one case and its timeline, each line with its event, including changes of payment methods."""
    asked = await asked_by(request, SCOPE)
    serving, case = services(request), read_identifier("invoice", path_value(request, "invoice"))

    async def read(connection: Any) -> str | None:
        return await query.read_customer_of(connection, asked.book, case)

    customer = (await read_build(serving, serving.dunning.name, asked, read)).value
    found = None if customer is None else await _read_customer(serving, asked, customer)
    told = None if found is None else query.told_of(found.value, case)
    if found is None or told is None:
        raise Problem(404, f"there is no case {case} in {asked.book}")
    standing, timeline = told
    content = {"case": case_json(standing), "timeline": [moment_json(one) for one in timeline]}
    return answer(asked, content, found)


async def _read_customer(serving: Services, asked: Asked, customer: str) -> Found[CustomerDunning]:
    moment = Moment(asked.now, asked.as_of)

    async def read(connection: Any) -> CustomerDunning:
        if asked.known is None:
            return await query.read_customer(connection, asked.book, customer, moment)
        return await query.fold_known(connection, serving.dunning, asked.book, customer, moment, asked.known)

    subject = query.stream_of_customer(asked.book, customer)
    found = await read_build(serving, serving.dunning.name, asked, read, [subject])
    return found if asked.known is None else Found(found.value, fresh_as_known(asked, found.freshness))


async def list_cases(request: Request) -> Response:
    """List a book's cases in order of opening: in one state, opened in a range of time."""
    asked, moment = await _of_book(request)
    state = _word(request, "state", STATES)
    wanted = query.Filter(state, bound_parameter(request, "opened_from"), bound_parameter(request, "opened_to"))
    limit, after = page_parameters(request, datetime, str)

    async def read(connection: Any) -> list[Standing]:
        return await query.read_cases(connection, asked.book, moment, wanted, after, limit + 1)

    found = await read_build(services(request), services(request).dunning.name, asked, read)
    page, cursor = page_of(found.value, limit, _opening)
    content = {"data": [case_json(one) for one in page], "next_cursor": cursor}
    return answer(asked, content, found)


async def list_attention(request: Request) -> Response:
    """List the cases that will not end without a person, by currency, the largest amount first."""
    asked, moment = await _of_book(request)
    currency = request.query_params.get("currency")
    if currency is not None and not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
        raise Problem(400, "currency must be three letters")
    limit, after = page_parameters(request, str, int, str)

    async def read(connection: Any) -> list[Standing]:
        wanted = None if currency is None else currency.lower()
        return await query.read_attention(connection, asked.book, moment, wanted, after, limit + 1)

    found = await read_build(services(request), services(request).dunning.name, asked, read)
    page, cursor = page_of(found.value, limit, lambda one: (one.case.currency, one.case.open_amount, one.case.case_id))
    content = {"data": [case_json(one) for one in page], "next_cursor": cursor}
    return answer(asked, content, found)


async def get_board(request: Request) -> Response:
    """Count a book's cases by currency and state, with what is open of them and what is at risk."""
    asked, moment = await _of_book(request)

    async def read(connection: Any) -> dict[str, Board]:
        return await query.read_board(connection, asked.book, moment)

    found = await read_build(services(request), services(request).dunning.name, asked, read)
    currencies = {currency: _board_json(one) for currency, one in sorted(found.value.items())}
    return answer(asked, {"currencies": currencies}, found)


def _board_json(one: Board) -> dict[str, Any]:
    tallies = {state: one.states[state] for state in STATES if state in one.states}
    states = {state: {"count": tally.count, "open_amount": tally.volume} for state, tally in tallies.items()}
    return {"states": states, "at_risk_mrr": one.at_risk_mrr}


async def get_summary(request: Request) -> Response:
    """Sum a book's cases by currency."""
    asked, moment = await _of_book(request)
    since, until = bound_parameter(request, "from"), bound_parameter(request, "to")
    wanted = Wanted(since, until, _word(request, "category", CATEGORIES))

    async def read(connection: Any) -> dict[str, Sums]:
        return await query.read_summary(connection, asked.book, moment, wanted)

    found = await read_build(services(request), services(request).dunning.name, asked, read)
    content = {
        "from": time_json(since),
        "to": time_json(until),
        "category": wanted.category,
        "currencies": {currency: sums_json(sums) for currency, sums in found.value.items()},
    }
    return answer(asked, content, found)


async def _of_book(request: Request) -> tuple[Asked, Moment]:
    """Read what is asked about a whole book; what was known at a time is read from a kept build."""
    asked = await build_for(services(request), services(request).dunning.name, await asked_by(request, SCOPE))
    return asked, Moment(asked.now, asked.as_of)


def _word(request: Request, name: str, allowed: tuple[str, ...]) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in allowed:
        raise Problem(400, f"{name} must be one of {', '.join(allowed)}")
    return text


def case_json(one: Standing) -> dict[str, Any]:
    """Write one case as the contract has it."""
    case = one.case
    content = {
        "case": case.case_id,
        "customer": case.customer,
        "subscription": case.subscription,
        "state": case.state,
        "category": case.category,
        "currency": case.currency,
        "amount_due": case.amount_due,
        "open_amount": case.open_amount,
        "opened_volume": case.opened_volume,
        "recovered_volume": case.recovered_volume,
        "lost_volume": case.lost_volume,
        "opened_at": time_json(case.opened_at),
        "closed_at": time_json(case.closed_at),
        "first_failed_at": time_json(case.first_failed_at),
        "due_date": time_json(case.due_date),
        "stripe_attempt_count": case.stripe_attempt_count,
        "failures": case.failures,
        "attempts": case.attempts,
        "next_attempt_at": time_json(case.next_attempt_at),
        "last_failure": _failure_json(case),
        "outcome": case.outcome,
        "recovered_by": case.recovered_by,
        "late": case.late,
        "at_risk_mrr": one.at_risk_mrr,
        "because": list(case.because),
    }
    return content | ({"incomplete": list(one.incomplete)} if one.incomplete else {})


def _failure_json(case: CaseRow) -> dict[str, Any] | None:
    if case.failure_at is None:
        return None
    return {
        "at": time_json(case.failure_at),
        "code": case.failure_code,
        "decline_code": case.decline_code,
        "class": case.failure_class,
        "confidence": case.failure_confidence,
    }


def moment_json(one: MomentRow) -> dict[str, Any]:
    """Write one line of a timeline, without what it has nothing to say of."""
    content = {
        "amount": one.amount,
        "currency": one.currency,
        "decline_code": one.decline_code,
        "class": one.failure_class,
        "confidence": one.failure_confidence,
        "next_attempt_at": time_json(one.next_attempt_at),
        "method": one.method,
    }
    told = {name: value for name, value in content.items() if value is not None}
    return {"at": time_json(one.at), "kind": one.kind, "case": one.case_id or None, "event": one.event} | told


def sums_json(sums: Sums) -> dict[str, Any]:
    """Write one currency's sums."""
    return {
        "opened": asdict(sums.opened),
        "recovered": asdict(sums.recovered),
        "lost": asdict(sums.lost),
        "open": asdict(sums.open),
        "recovery_rate": rate_json(Group(sums.opened, sums.recovered).rate),
        "cohorts": [
            {
                "month": one.month,
                "opened_volume": one.group.opened.volume,
                "recovered_volume": one.group.recovered.volume,
                "recovery_rate": rate_json(one.group.rate),
                "matured": one.matured,
            }
            for one in sums.cohorts
        ],
        "by_class": {kind: _group_json(group) for kind, group in sums.by_class.items()},
        "by_attempt": [{"attempt": n, **asdict(tally)} for n, tally in sums.by_attempt.items()],
        "by_recovery": {how: asdict(tally) for how, tally in sums.by_recovery.items()},
        "median_attempts_to_recover": rate_json(sums.median_attempts),
        "median_hours_to_recover": rate_json(sums.median_hours),
        "at_risk_mrr": sums.at_risk_mrr,
        "healthy_mrr": sums.mrr - sums.at_risk_mrr,
        "mrr": sums.mrr,
        "churn": sums.churn,
    }


def _group_json(group: Group) -> dict[str, Any]:
    opened, recovered = asdict(group.opened), asdict(group.recovered)
    return {"opened": opened, "recovered": recovered, "recovery_rate": rate_json(group.rate)}


def rate_json(rate: Fraction | None) -> float | None:
    """Write a rate or a median to four places; null where there is none."""
    return None if rate is None else round(rate.numerator / rate.denominator, 4)
