"""Dunning in the ledger's own notation: a table of what Stripe sent in, a case's line at chosen moments out.

A line reads ``when type ids and words key=value``. ``when`` is days after the start, ``3+5`` is five seconds later.
Money is in cents. The same story is written in the newest shape of the API and in that of 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import orjson

from projections.contract import Rows, Subject
from projections.dunning.rows import CaseRow, ChurnRow, MomentRow, WorthRow
from projections.dunning.standing import Standing, holding, standings
from projections.dunning.tables import DUNNING
from projections.facts import Fact, fact_of
from projections.folding import rows_of
from tests.stripe_events import Json, event

Shape = Literal["new", "old"]
SHAPES: Final[tuple[Shape, ...]] = ("new", "old")
START: Final = 1_768_478_400
SUBJECT: Final = Subject("self:live", "self:live/cus_1")


def seconds(when: str) -> int:
    """Read a time of a story."""
    days, _, more = when.partition("+")
    return START + int(float(days) * 86_400) + int(more or 0)


def moment(when: str) -> datetime:
    """Read a time of a story as a time."""
    return datetime.fromtimestamp(seconds(when), UTC)


def events_of(story: str, shape: Shape = "new") -> list[Json]:
    """Write a story's events as Stripe would."""
    lines = [line.partition("#")[0].split() for line in story.strip().splitlines()]
    return [_event(f"evt_{n:03d}", line, shape) for n, line in enumerate(filter(None, lines), 1)]


def facts_of(story: str, shape: Shape = "new") -> list[Fact]:
    """Write a story as a fold sees it."""
    found = []
    for position, content in enumerate(events_of(story, shape), 1):
        created = datetime.fromtimestamp(content["created"], UTC)
        found.append(fact_of(content["id"], content["type"], created, position, orjson.dumps(content)))
    return found


def _event(event_id: str, line: list[str], shape: Shape) -> Json:
    when, type_, *words = line
    named = dict(word.split("=", 1) for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    asked = "asked" in plain
    plain = [word for word in plain if word != "asked"]
    subject = _WRITERS[next(start for start in _WRITERS if type_.startswith(start))](plain, named, shape)
    request = {"id": "req_1" if asked else None, "idempotency_key": None}
    return event(event_id, type_, subject, created=seconds(when), request=request)


def _invoice(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    key, status = plain[:2]
    due, paid = int(named.get("due", 3100)), int(named.get("paid", 0))
    subscription = None if named.get("sub") == "none" else named.get("sub", "sub_1")
    intent = named.get("pi")
    reason = named.get("reason", "subscription_cycle" if subscription else "manual")
    made: Json = {
        "id": key, "object": "invoice", "customer": "cus_1", "status": status, "currency": named.get("cur", "usd"),
        "billing_reason": reason, "collection_method": named.get("collect", "charge_automatically"),
        "total": due, "amount_due": due, "amount_paid": paid, "amount_remaining": int(named.get("left", due - paid)),
        "attempt_count": int(named.get("count", 0)), "attempted": int(named.get("count", 0)) > 0,
        "next_payment_attempt": seconds(named["next"]) if "next" in named else None,
        "due_date": seconds(named["due_at"]) if "due_at" in named else None,
        "created": seconds(named.get("made", "0")), "lines": {"object": "list", "data": [], "has_more": False},
        "pre_payment_credit_notes_amount": int(named.get("credited", 0)),
        "last_finalization_error": {"code": "tax_location_invalid"} if "blocked" in plain else None,
    }  # fmt: skip
    if shape == "new":
        details: Json = {"subscription": subscription, "metadata": {}}
        made["parent"] = {"type": "subscription_details", "subscription_details": details} if subscription else None
    else:
        made |= {"subscription": subscription, "payment_intent": intent, "charge": None, "paid": status == "paid",
                 "paid_out_of_band": "off_stripe" in plain}  # fmt: skip
    return made


def _charge(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    key, code = plain[:2]
    made: Json = {
        "id": key, "object": "charge", "customer": "cus_1", "status": "failed", "payment_intent": named.get("pi"),
        "amount": int(named.get("amount", 3100)), "currency": named.get("cur", "usd"), "captured": False,
        "failure_code": "card_declined",
        "outcome": {"reason": code, "advice_code": named.get("advice"), "network_decline_code": "51"},
    }  # fmt: skip
    return made | ({"invoice": named.get("in", "in_1")} if shape == "old" else {})


def _intent(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    key, code = plain[:2]
    code, declined = (code, None) if code.startswith("payment_intent_") else ("card_declined", code)
    made: Json = {
        "id": key, "object": "payment_intent", "customer": "cus_1", "status": "requires_payment_method",
        "amount": int(named.get("amount", 3100)), "currency": named.get("cur", "usd"), "latest_charge": named.get("ch"),
        "last_payment_error": {"code": code, "decline_code": declined, "advice_code": named.get("advice")},
    }  # fmt: skip
    return made | ({"invoice": named.get("in", "in_1")} if shape == "old" else {})


def _invoice_payment(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    invoice, payment = plain[:2]
    kind = "payment_record" if payment.startswith("pr_") else "payment_intent"
    return {"id": f"inpay_{payment}", "object": "invoice_payment", "invoice": invoice, "status": "paid",
            "amount_paid": int(named.get("amount", 3100)), "currency": "usd",
            "payment": {"type": kind, kind: payment}}  # fmt: skip


def _subscription(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    key, status = plain[:2]
    unit = int(named.get("unit", 3100))
    price = {"id": "price_1", "object": "price", "product": "prod_1", "currency": named.get("cur", "usd"),
             "unit_amount": unit, "unit_amount_decimal": str(unit), "billing_scheme": "per_unit",
             "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}  # fmt: skip
    item = {"id": f"si_{key}", "object": "subscription_item", "quantity": int(named.get("qty", 1)), "price": price}
    paused = {"paused": {"subscription": {"type": named.get("reason")}}} if status == "paused" else None
    return {
        "id": key, "object": "subscription", "customer": "cus_1", "status": status, "currency": named.get("cur", "usd"),
        "items": {"object": "list", "data": [item], "has_more": False}, "metadata": {}, "status_details": paused,
        "cancellation_details": {"reason": named.get("reason") if status == "canceled" else None},
        "trial_end": seconds(named["trial"]) if "trial" in named else None, "discounts": [],
        "default_payment_method": named.get("pm"), "ended_at": None,
    }  # fmt: skip


def _customer(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    return {"id": "cus_1", "object": "customer", "default_source": None,
            "invoice_settings": {"default_payment_method": named.get("pm")}}  # fmt: skip


def _method(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    return {"id": plain[0], "object": "payment_method", "customer": "cus_1", "type": "card"}


def _credit_note(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    made: Json = {"id": plain[0], "object": "credit_note", "customer": "cus_1", "invoice": plain[1], "status": "issued",
                  "currency": "usd", "amount": int(named["amount"]), "total": int(named["amount"])}  # fmt: skip
    return made | ({"pre_payment_amount": made["amount"], "post_payment_amount": 0} if shape == "new" else {})


def _observation(plain: list[str], named: dict[str, str], shape: Shape) -> Json:
    paid = _invoice_payment([plain[1], plain[0]], named, shape) | {"status": "open"}
    answer = {"object": "list", "data": [paid], "has_more": False}
    return {"object": "ledger.observation", "kind": "invoice_payments", "of": plain[0], "customer": "cus_1",
            "responses": [answer]}  # fmt: skip


_WRITERS: Final[dict[str, Callable[[list[str], dict[str, str], Shape], Json]]] = {
    "invoice_payment.": _invoice_payment,
    "invoice.": _invoice,
    "charge.": _charge,
    "payment_intent.": _intent,
    "customer.subscription.": _subscription,
    "customer.": _customer,
    "payment_method.": _method,
    "credit_note.": _credit_note,
    "ledger.observation.": _observation,
}


def fold(facts: Iterable[Fact]) -> Rows:
    """Fold a customer's facts, given in any order."""
    return rows_of(DUNNING, SUBJECT, facts)


def cases_in(rows: Rows, at: datetime) -> dict[str, Standing]:
    """Return the cases at a moment."""
    cases = holding([CaseRow(*row) for row in rows["dunning_case"]], at)
    worth = holding([WorthRow(*row) for row in rows["dunning_worth"]], at)
    return {one.case.case_id: one for one in standings(cases, worth)}


def worth_in(rows: Rows, at: datetime) -> list[WorthRow]:
    """Return what each subscription is worth at a moment."""
    return holding([WorthRow(*row) for row in rows["dunning_worth"]], at)


def churn_in(rows: Rows) -> list[ChurnRow]:
    """Return who left."""
    return [ChurnRow(*row) for row in rows["dunning_churn"]]


def timeline_in(rows: Rows) -> list[MomentRow]:
    """Return what happened."""
    return [MomentRow(*row) for row in rows["dunning_moment"]]


def say(standing: Standing | None) -> str:
    """Tell a case in a line: state, failures of Stripe's attempts, and what else there is to it."""
    if standing is None:
        return "none"
    case = standing.case
    more = [case.outcome, f"by {case.recovered_by}" if case.recovered_by else None, "late" if case.late else None]
    return " ".join([f"{case.state} {case.failures}/{case.stripe_attempt_count}", *filter(None, more)])


def told(rows: Rows, expected: dict[str, Any], case: str = "in_1") -> dict[str, str]:
    """Tell a case at each of the moments of what is expected."""
    return {when: say(cases_in(rows, moment(when)).get(case)) for when in expected}


def later(at: datetime, by: int) -> datetime:
    """Return a moment so many seconds later."""
    return at + timedelta(seconds=by)


def volumes(standings_: Sequence[Standing]) -> tuple[int, int, int]:
    """Add up what was at stake, came back and was given up."""
    cases = [one.case for one in standings_]
    return (
        sum(one.opened_volume for one in cases),
        sum(one.recovered_volume for one in cases),
        sum(one.lost_volume for one in cases),
    )
