"""``/v1/customers/{customer}/entitlements`` and ``/v1/entitlements/check``: what may be used, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import require, services
from api.bodies import json_body
from api.parameters import path_value
from api.problems import JSONResponse, Problem
from api.reads import asked_by, time_json, when_folded
from api.services import Services
from ledger.event import IDENTIFIER
from projections.builds import Freshness
from projections.entitlements.answer import Answer, Contribution, Value
from projections.entitlements.compared import Compared
from projections.entitlements.query import Entitlements, Moment, entitlements_of, fold_known, read_many
from projections.entitlements.rows import NAME_CHARACTERS_MAX, ORG_PREFIX

CHECKS_MAX: Final = 500

_STALE_SECONDS: Final = 60.0
_NOBODY: Final = "org:-"
"""Who is asked for where no question came: how fresh the answers would have been is told all the same."""

_CHECKS_BYTES_MAX: Final = 2_000_000


async def list_entitlements(request: Request) -> Response:
    """List what is granted; ``include=all`` lists what is not as well, with the reason."""
    include = request.query_params.get("include")
    if include not in (None, "all"):
        raise Problem(400, "include may only be all")
    [found] = await _read(request, [customer_of(path_value(request, "customer"))])
    _refuse_long_parked(found)
    answers = found.answers
    content: dict[str, Any] = {
        "customer": found.customer,
        "org": found.org,
        "entitlements": [answer_json(one) for one in answers if one.granted or include == "all"],
    }
    if (compared := found.compared) is not None:
        content["stripe_entitlements"] = _compared_json(compared)
    return _respond(request, content, [found], stale=any(one.stale for one in answers))


async def get_entitlement(request: Request) -> Response:
    """Answer for one feature: always an answer, granted or not."""
    [found] = await _read(request, [customer_of(path_value(request, "customer"))])
    return respond_one(request, found, path_value(request, "feature"))


def respond_one(request: Request, found: Entitlements, feature: str) -> Response:
    """Respond with the answer for one feature. Raises 503 for a customer whose answers are too old."""
    _refuse_long_parked(found)
    answer = found.answer(feature)
    content = answer_json(answer) | {"customer": found.customer, "org": found.org}
    return _respond(request, content, [found], stale=answer.stale)


async def check(request: Request) -> Response:
    """Answer many questions at once, in their order, from one snapshot."""
    require(request, "entitlements:read")
    body = await json_body(request, {"checks"}, _CHECKS_BYTES_MAX)
    checks = _checks(body.get("checks"))
    holders = list(dict.fromkeys(customer for customer, _ in checks)) or [_NOBODY]
    found = dict(zip(holders, await _read(request, holders), strict=True))
    answers = [(found[customer], _answer(found[customer], feature)) for customer, feature in checks]
    data = [answer_json(answer) | {"customer": one.customer, "org": one.org} for one, answer in answers]
    return _respond(request, {"data": data}, list(found.values()), stale=any(one.stale for _, one in answers))


def _checks(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        raise Problem(400, 'send {"checks": [{"customer": …, "feature": …}, …]}')
    if len(value) > CHECKS_MAX:
        raise Problem(400, f"at most {CHECKS_MAX} checks at once")
    found = []
    for number, one in enumerate(value):
        asked = one if isinstance(one, dict) else {}
        customer, feature = asked.get("customer"), asked.get("feature")
        if not isinstance(customer, str) or not isinstance(feature, str) or set(asked) != {"customer", "feature"}:
            raise Problem(400, f"checks[{number}] needs a customer and a feature")
        found.append((customer_of(customer), feature))
    return found


def _answer(found: Entitlements, feature: str) -> Answer:
    """Answer one of many questions; a customer whose rows are too old is denied, without failing the others."""
    if found.parked_too_long:
        return Answer(feature, granted=False, kind="boolean", value=False, state=None, reason="parked")
    return found.answer(feature)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Write one answer as the contract has it."""
    return {
        "feature": answer.feature,
        "granted": answer.granted,
        "kind": answer.kind,
        "value": value_json(answer.value),
        "state": answer.state,
        "reason": answer.reason,
        "valid_from": time_json(answer.valid_from),
        "valid_until": time_json(answer.valid_until),
        "ends_at": time_json(answer.ends_at),
        "sources": [_source_json(one) for one in answer.sources],
        "because": list(answer.because),
    }


def _source_json(one: Contribution) -> dict[str, Any]:
    content = {
        "kind": one.source.kind,
        "id": one.source.source,
        "item": one.source.item,
        "product": one.source.product,
        "price": one.source.price,
        "quantity": value_json(one.source.quantity),
        "status": one.source.status,
        "value": value_json(one.value),
    }
    return content if one.source.note is None else content | {"note": one.source.note}


def _compared_json(compared: Compared) -> dict[str, Any]:
    return {"complete": compared.complete, "only_stripe": compared.only_stripe, "only_ledger": compared.only_ledger}


def customer_of(text: str) -> str:
    """Return a customer's id or an organisation's name, if it is one. Raises 400."""
    name = text.removeprefix(ORG_PREFIX)
    # An organisation's name is whatever stands in metadata; a customer's id is an id.
    fits = 0 < len(name) <= NAME_CHARACTERS_MAX and "\x00" not in name
    if not fits or (text == name and not IDENTIFIER.fullmatch(text)):
        raise Problem(400, "name a customer (cus_…) or an organisation (org:NAME)")
    return text


async def _read(request: Request, holders: Sequence[str]) -> list[Entitlements]:
    asked, serving = await asked_by(request, "entitlements:read"), services(request)
    serving.live.tail.want()
    moment = Moment(asked.now, asked.as_of)
    if asked.known is not None:
        return [await _read_known(serving, asked.book, holder, moment, asked.known) for holder in holders]

    async def look() -> tuple[Freshness, list[Entitlements] | None]:
        found = await _read_build(serving, asked.book, holders, moment, asked.build)
        freshness = next(iter(found.values())).freshness
        clean = asked.min_position == 0 or not any(one.dirty for one in found.values())
        usable = freshness.build is not None and freshness.position >= asked.min_position and clean
        return freshness, [found[holder] for holder in holders] if usable else None

    return await when_folded(asked, look)


async def _read_known(serving: Services, book: str, holder: str, moment: Moment, known: int) -> Entitlements:
    async with (
        serving.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = await fold_known(connection, serving.entitlements, book, holder, moment, known)
    if found is None:
        name = serving.entitlements.name
        detail = (
            f"{holder} has had too many customers to fold them now: POST /v1/projections/{name}/rebuilds with "
            f'{{"book": "{book}", "until_position": {known}}} to build what was known then; ask that with build='
        )
        raise Problem(409, detail, kind="build-required")
    return found


async def _read_build(
    serving: Services, book: str, holders: Sequence[str], moment: Moment, build_id: str | None
) -> dict[str, Entitlements]:
    if build_id is None:
        one = len(holders) == 1
        found = await (serving.holders.one(book, holders[0]) if one else serving.holders.many(book, holders))
        return {holder: entitlements_of(found, holder, moment) for holder in holders}
    async with (
        serving.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return await read_many(connection, serving.entitlements, book, holders, moment, build_id)


def _refuse_long_parked(found: Entitlements) -> None:
    if found.parked_too_long:
        since = time_json(found.parked_since)
        detail = f"{found.customer} cannot be folded since {since}: its last answers are too old; see /v1/parked"
        raise Problem(503, detail, kind="parked", headers={"Retry-After": "60"})


def _respond(request: Request, content: dict[str, Any], found: Sequence[Entitlements], *, stale: bool) -> Response:
    freshness = found[0].freshness
    parked, dirty = any(one.parked for one in found), any(one.dirty for one in found)
    content["freshness"] = freshness_json(freshness, services(request).clock(), stale=stale or dirty, parked=parked)
    return JSONResponse(content, headers={"Ledger-Position": str(freshness.position), "Cache-Control": "no-store"})


def freshness_json(freshness: Freshness, now: datetime, *, stale: bool, parked: bool) -> dict[str, Any]:
    """Write how fresh an answer is; parked rows and a build far behind make it ``stale``."""
    lag_seconds = round(freshness.lag_seconds(now), 3)
    return {
        "book": freshness.book,
        "position": freshness.position,
        "head": freshness.head,
        "lag_seconds": lag_seconds,
        "build": freshness.build,
        "stale": stale or parked or lag_seconds > _STALE_SECONDS,
        "parked": parked,
    }


def value_json(value: Value) -> bool | int | float | str | None:
    """Write a value: whole numbers without a fraction."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
