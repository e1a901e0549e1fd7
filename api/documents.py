"""``/v1/customers/{customer}/subscriptions`` and ``…/invoices``: one customer's documents, as of any moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import services
from api.reads import (
    DEFAULT_LIMIT,
    Asked,
    Found,
    answer,
    asked_by,
    customer_in_path,
    fresh_as_known,
    page_through,
    read_build,
    time_json,
)
from api.revenue import SCOPE
from ledger.times import rfc3339
from projections.contract import Subject
from projections.revenue.documents import InvoiceRow, SubscriptionRow
from projections.revenue.dossier import Dossier, fold_dossier, read_dossier
from projections.revenue.query import position_of

Row = TypeVar("Row", InvoiceRow, SubscriptionRow)


async def list_subscriptions(request: Request) -> Response:
    """List a customer's subscriptions, the newest first."""
    asked, found = await _read(request)
    return _page(request, asked, found, found.value.subscriptions, lambda one: one.subscription, subscription_json)


async def list_invoices(request: Request) -> Response:
    """List a customer's finalised invoices, the newest first."""
    asked, found = await _read(request)
    return _page(request, asked, found, found.value.invoices, lambda one: one.invoice, invoice_json)


async def _read(request: Request) -> tuple[Asked, Found[Dossier]]:
    asked = await asked_by(request, SCOPE)
    serving = services(request)
    subject = Subject(asked.book, f"{asked.book}/{customer_in_path(request)}")

    async def read(connection: asyncpg.Connection) -> Dossier:
        if asked.known is None and asked.as_of is None:
            return await read_dossier(connection, subject.stream_id)
        until = asked.known
        if until is None:
            until = await position_of(connection, asked.book, asked.build)
        return await fold_dossier(connection, serving.revenue, subject, until, asked.as_of)

    found = await read_build(serving, serving.revenue.name, asked, read, [subject.stream_id])
    if asked.known is not None:
        found = Found(found.value, fresh_as_known(asked, found.freshness))
    return asked, found


def _page(
    request: Request,
    asked: Asked,
    found: Found[Dossier],
    rows: Sequence[Row],
    name: Callable[[Row], str],
    written: Callable[[Row], dict[str, Any]],
) -> Response:
    page, cursor = page_through(
        request, rows, lambda one: (one.created, name(one)), datetime, str, default=DEFAULT_LIMIT, descending=True
    )
    content = {"customer": customer_in_path(request), "data": [written(one) for one in page], "next_cursor": cursor}
    return answer(asked, content, found)


def subscription_json(one: SubscriptionRow) -> dict[str, Any]:
    """Write one subscription."""
    return {
        "subscription": one.subscription,
        "status": one.status,
        "currency": one.currency,
        "created": rfc3339(one.created),
        "cancel_at_period_end": one.cancel_at_period_end,
        "canceled_at": time_json(one.canceled_at),
        "ended_at": time_json(one.ended_at),
        "because": [one.because],
    }


def invoice_json(one: InvoiceRow) -> dict[str, Any]:
    """Write one invoice."""
    times: dict[str, datetime | None] = {
        "due_date": one.due_date,
        "paid_at": one.paid_at,
        "voided_at": one.voided_at,
        "uncollectible_at": one.uncollectible_at,
    }
    amounts = ("total", "tax", "net", "amount_due", "amount_paid", "amount_remaining", "balance_applied")
    content = {
        "invoice": one.invoice,
        "subscription": one.subscription,
        "status": one.status,
        "reason": one.reason,
        "collection_method": one.collection_method,
        "currency": one.currency,
        **{amount: getattr(one, amount) for amount in amounts},
        "created": rfc3339(one.created),
        "finalized_at": rfc3339(one.finalized_at),
        **{name: time_json(time) for name, time in times.items()},
        "because": list(one.because),
    }
    return content | ({"incomplete": ["lines"]} if one.incomplete else {})
