"""``/v1/customers/{customer}/entitlements``: what a customer may use, and why."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import book_of_request, require, services
from api.parameters import MAX_WAIT_SECONDS, integer_parameter, path_value, seconds_parameter, time_parameter
from api.problems import JSONResponse, Problem
from api.services import Services
from ledger.event import IDENTIFIER
from ledger.reader import position_at, read_head
from ledger.times import rfc3339
from projections.entitlements.answer import Answer, answer_one
from projections.entitlements.query import ORG_PREFIX, Entitlements, Moment, fold_known, read_entitlements

_LAST_POSITION: Final = 2**63 - 1
_POLL_SECONDS: Final = 0.02
_STALE_SECONDS: Final = 60.0


async def list_entitlements(request: Request) -> Response:
    """List what is granted; ``include=all`` lists what is not as well, with the reason."""
    include = request.query_params.get("include")
    if include not in (None, "all"):
        raise Problem(400, "include may only be all")
    found = await _read(request)
    shown = [answer for answer in found.answers if answer.granted or include == "all"]
    content = {
        "customer": found.customer,
        "org": found.org,
        "entitlements": [answer_json(answer) for answer in shown],
    }
    return _answer(request, content, found)


async def get_entitlement(request: Request) -> Response:
    """Answer for one feature: always an answer, granted or not."""
    found = await _read(request)
    answer = answer_one(path_value(request, "feature"), found.answers, known_customer=found.known)
    return _answer(request, answer_json(answer) | {"customer": found.customer, "org": found.org}, found)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Write one answer as the contract has it."""
    return {
        "feature": answer.feature,
        "granted": answer.granted,
        "kind": answer.kind,
        "value": _value_json(answer.value),
        "state": answer.state,
        "reason": answer.reason,
        "valid_from": _time_json(answer.valid_from),
        "valid_until": _time_json(answer.valid_until),
        "ends_at": _time_json(answer.ends_at),
        "sources": [
            {
                "kind": one.source.kind,
                "id": one.source.source,
                "item": one.source.item,
                "product": one.source.product,
                "price": one.source.price,
                "quantity": _value_json(one.source.quantity),
                "status": one.source.status,
                "value": _value_json(one.value),
            }
            for one in answer.sources
        ],
        "because": list(answer.because),
    }


async def _read(request: Request) -> Entitlements:
    key = require(request, "entitlements:read")
    book = await book_of_request(request, key)
    customer = _customer(request)
    serving = services(request)
    moment = Moment(serving.clock(), time_parameter(request, "as_of", "at"))
    known = await _known_position(request, book)
    if known is not None:
        if customer.startswith(ORG_PREFIX):
            raise Problem(409, _build_required(serving, known), kind="build-required")
        async with serving.pool.acquire() as connection:
            return await fold_known(connection, serving.entitlements, book, customer, moment, known)
    min_position = integer_parameter(request, "min_position", 0, 0, _LAST_POSITION)
    wait_seconds = seconds_parameter(request, "wait", 0, MAX_WAIT_SECONDS)
    build_id = request.query_params.get("build")
    return await _read_live(serving, book, customer, moment, min_position, wait_seconds, build_id)


def _build_required(serving: Services, known: int) -> str:
    """Say which request makes the build that an organisation's past answers are read from."""
    name = serving.entitlements.name
    return (
        f'an org is many customers: POST /v1/projections/{name}/rebuilds with {{"until_position": {known}}} makes a '
        "build of what was known then; ask it with build="
    )


async def _read_live(
    serving: Services,
    book: str,
    customer: str,
    moment: Moment,
    min_position: int,
    wait_seconds: float,
    build_id: str | None,
) -> Entitlements:
    """Read the live rows once they are as new as asked for. Raises 503 when that takes longer than ``wait``."""
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        async with (
            serving.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = await read_entitlements(connection, serving.entitlements, book, customer, moment, build_id)
        if build_id is not None and found.freshness.build is None:
            raise Problem(404, f"there is no build {build_id}")
        if found.freshness.build is not None and found.freshness.position >= min_position:
            return found
        if asyncio.get_running_loop().time() + _POLL_SECONDS > deadline:
            if found.freshness.build is None:
                raise Problem(503, "the projection is not built yet", headers={"Retry-After": "1"})
            detail = f"folded up to position {found.freshness.position}, not yet {min_position}"
            raise Problem(503, detail, kind="not-yet", headers={"Retry-After": "1"})
        await asyncio.sleep(_POLL_SECONDS)


async def _known_position(request: Request, book: str) -> int | None:
    known_at = time_parameter(request, "known_at")
    async with services(request).pool.acquire() as connection:
        if known_at is not None:
            return await position_at(connection, book, known_at)
        if "known_position" in request.query_params:
            asked = integer_parameter(request, "known_position", 0, 0, _LAST_POSITION)
            return min(asked, await read_head(connection, book))
    return None


def _customer(request: Request) -> str:
    customer = path_value(request, "customer")
    name = customer.removeprefix(ORG_PREFIX)
    # An organisation's name is whatever stands in metadata; a customer's id is an id.
    if not name or "\x00" in name or (customer == name and not IDENTIFIER.fullmatch(customer)):
        raise Problem(400, "name a customer (cus_…) or an organisation (org:NAME)")
    return customer


def _answer(request: Request, content: dict[str, Any], found: Entitlements) -> Response:
    freshness = found.freshness
    lag_seconds = round(freshness.lag_seconds(services(request).clock()), 3)
    content["freshness"] = {
        "book": freshness.book,
        "position": freshness.position,
        "head": freshness.head,
        "lag_seconds": lag_seconds,
        "build": freshness.build,
        "stale": lag_seconds > _STALE_SECONDS or found.parked,
        "parked": found.parked,
    }
    return JSONResponse(content, headers={"Ledger-Position": str(freshness.position), "Cache-Control": "no-store"})


def _value_json(value: bool | Decimal | None) -> bool | int | float | None:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _time_json(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
