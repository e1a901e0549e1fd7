# ruff: noqa: A002 - the stories name arguments as Stripe does
"""Books as an accountant tells them: a table of what happened, turned into Stripe's events in any shape.

A line is a date, a verb and what belongs to it:

    2026-01-01  invoice 9000@2026-01-01..2026-04-01        one line for three months (N@ alone has no period)
    2026-01-01  paid                                       all that is open, by card
    2026-02-01  refund re_1 900
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from projections.causal import in_causal_order
from projections.contract import Subject
from projections.facts import Fact, fact_of
from projections.revenue import gather
from projections.revenue.accounts import CLASSES
from projections.revenue.entries import Entry
from projections.revenue.facts import Facts
from projections.revenue.journal import Books, books_of
from projections.revenue.policy import POLICIES
from projections.revenue.recognition import earnings, entries_of_time
from tests.stripe_events import Json, event

SUBJECT = Subject("self:live", "self:live/cus_1")
SHAPES = ("endive", "basil", "2024", "2020")
NATURAL = {"asset": 1, "expense": 1, "contra_revenue": 1, "liability": -1, "revenue": -1, "gain": -1, "equity": -1}


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@dataclass
class Teller:
    """Plays Stripe for one customer: keeps each invoice as it is and writes an event for whatever happens to it."""

    shape: str
    events: list[Json] = field(default_factory=list)
    invoices: dict[str, Json] = field(default_factory=dict)
    charges: dict[str, Json] = field(default_factory=dict)
    refunds: dict[str, Json] = field(default_factory=dict)
    notes: dict[str, Json] = field(default_factory=dict)
    disputes: dict[str, Json] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def old(self) -> bool:
        return self.shape in {"2024", "2020"}

    def tell(self, at: int, type_: str, subject: Json) -> None:
        content = event(f"evt_{next(self.numbers)}", type_, orjson.loads(orjson.dumps(subject)), created=at)
        self.events.append(content)

    def invoice(self, at: int, *lines: str, id: str = "in_1", tax: str = "", balance: str = "0", **more: str) -> None:
        taxes = [int(one) for one in tax.split(",")] if tax else [0] * len(lines)
        made = [
            self._line(f"il_{id[3:]}_{n}", text, taxed, more.get("product", "prod_1"))
            for n, (text, taxed) in enumerate(zip(lines, taxes, strict=True), 1)
        ]
        used = _credits(more.get("credits", ""))
        total = sum(line["amount"] for line in made) + sum(taxes) - sum(one["amount"] for one in used)
        due = total - int(balance)
        start = int(more.get("starting", 0))
        one: Json = {
            "id": id,
            "object": "invoice",
            "customer": "cus_1",
            "currency": more.get("currency", "usd"),
            "status": "open",
            "billing_reason": more.get("reason", "subscription_cycle"),
            "collection_method": "charge_automatically",
            "total": total,
            "total_excluding_tax": total - sum(taxes),
            "amount_due": max(due, 0),
            "amount_paid": 0,
            "amount_remaining": max(due, 0),
            "starting_balance": start,
            "ending_balance": start + int(balance),
            "created": at,
            "due_date": at,
            "lines": {"object": "list", "data": made, "has_more": False},
            "status_transitions": {
                "finalized_at": at,
                "paid_at": None,
                "voided_at": None,
                "marked_uncollectible_at": None,
            },
        }
        if self.old:
            one |= {
                "subscription": more.get("subscription", "sub_1"),
                "charge": None,
                "payment_intent": None,
                "paid": False,
                "paid_out_of_band": False,
                "tax": sum(taxes) or None,
            }
        else:
            one |= {
                "parent": {
                    "type": "subscription_details",
                    "subscription_details": {"subscription": more.get("subscription", "sub_1")},
                },
                "total_taxes": [{"amount": sum(taxes), "tax_behavior": "exclusive"}] if tax else [],
            }
        if used:
            made[0]["pretax_credit_amounts"] = one["total_pretax_credit_amounts"] = used
        self.invoices[id] = one
        self.tell(at, "invoice.finalized", one)
        if due <= 0:
            self._close(at, one)

    def _line(self, key: str, text: str, tax: int, product: str) -> Json:
        amount, _, period = text.partition("@")
        start, _, end = period.partition("..")
        times = {"start": seconds(start), "end": seconds(end)} if period else {"start": 1, "end": 1}
        made: Json = {"id": key, "object": "line_item", "amount": int(amount), "period": times, "discount_amounts": []}
        if self.old:
            made |= {
                "type": "subscription",
                "price": {"id": "price_1", "product": product, "object": "price"},
                "subscription": "sub_1",
                "proration": False,
                "tax_amounts": _tax(tax, old=True),
            }
        else:
            details = {"subscription": "sub_1", "subscription_item": "si_1", "proration": False}
            made |= {
                "parent": {"type": "subscription_item_details", "subscription_item_details": details},
                "pricing": {"price_details": {"price": "price_1", "product": product}},
                "taxes": _tax(tax, old=False),
            }
        return made

    def _close(self, at: int, one: Json) -> None:
        one["status"], one["status_transitions"]["paid_at"] = "paid", at
        one["paid"] = True
        if not self.old:
            del one["paid"]
        self.tell(at, "invoice.paid", one)
        self.tell(at, "invoice.payment_succeeded", one)

    def paid(self, at: int, amount: str = "", id: str = "in_1", charge: str = "ch_1", oob: str = "") -> None:
        one = self.invoices[id]
        paid = int(amount) if amount else one["amount_remaining"]
        one["amount_paid"] += paid
        one["amount_remaining"] -= paid
        intent = charge.replace("ch", "pi")
        if not oob:
            made: Json = {
                "id": charge,
                "object": "charge",
                "customer": "cus_1",
                "amount": paid,
                "amount_captured": paid,
                "captured": True,
                "currency": one["currency"],
                "created": at,
                "status": "succeeded",
                "payment_intent": intent,
                "balance_transaction": f"txn_{charge}",
                "amount_refunded": 0,
            }
            if self.old:
                made["invoice"], one["charge"], one["payment_intent"] = id, charge, intent
            if self.shape == "2020":
                made["refunds"] = {"object": "list", "data": []}
            self.charges[charge] = made
            self.tell(at, "charge.succeeded", made)
        elif self.old:
            one["paid_out_of_band"] = True
        if not self.old:
            how = (
                {"type": "payment_record", "payment_record": "pr_1"}
                if oob
                else {"type": "payment_intent", "payment_intent": intent}
            )
            payment = {
                "id": f"inpay_{charge}",
                "object": "invoice_payment",
                "invoice": id,
                "amount_paid": paid,
                "currency": one["currency"],
                "status": "paid",
                "created": at,
                "payment": how,
                "status_transitions": {"paid_at": at},
            }
            self.tell(at, "invoice_payment.paid", payment)
        if one["amount_remaining"] <= 0:
            self._close(at, one)
        else:
            self.tell(at, "invoice.updated", one)

    def void(self, at: int, id: str = "in_1") -> None:
        self._end(at, id, "void", "voided_at", "invoice.voided")

    def uncollectible(self, at: int, id: str = "in_1") -> None:
        self._end(at, id, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")

    def _end(self, at: int, key: str, status: str, transition: str, type_: str) -> None:
        one = self.invoices[key]
        one["status"], one["status_transitions"][transition] = status, at
        self.tell(at, type_, one)

    def refund(self, at: int, key: str, amount: str, charge: str = "ch_1") -> None:
        made = {
            "id": key,
            "object": "refund",
            "amount": int(amount),
            "charge": charge,
            "payment_intent": charge.replace("ch", "pi"),
            "created": at,
            "currency": self.charges[charge]["currency"],
            "status": "succeeded",
            "balance_transaction": f"txn_{key}",
        }
        self.refunds[key] = made
        self._tell_refund(at, "refund.created", made)

    def _tell_refund(self, at: int, type_: str, made: Json) -> None:
        if self.shape != "2020":
            self.tell(at, type_, made)
            return
        charge = self.charges[made["charge"]]
        charge["refunds"]["data"] = [one for one in self.refunds.values() if one["charge"] == charge["id"]]
        if made["status"] == "failed":
            self.tell(at, "charge.refund.updated", made)
        else:
            charge["amount_refunded"] += made["amount"]
            self.tell(at, "charge.refunded", charge)

    def fail(self, at: int, key: str) -> None:
        self.refunds[key] |= {"status": "failed", "failure_balance_transaction": f"txn_f{key}"}
        self._tell_refund(at, "refund.failed", self.refunds[key])

    def credit(
        self,
        at: int,
        key: str,
        amount: str,
        id: str = "in_1",
        line: str = "",
        refund: str = "",
        before: str = "",
        oob: str = "0",
    ) -> None:
        one = self.invoices[id]
        given, part = int(amount), int(before or 0)
        if not before and one["status"] in {"open", "uncollectible"}:
            part = given
        made: Json = {
            "id": key,
            "object": "credit_note",
            "customer": "cus_1",
            "invoice": id,
            "amount": given,
            "total": given,
            "currency": one["currency"],
            "created": at,
            "status": "issued",
            "out_of_band_amount": int(oob),
            "lines": {
                "object": "list",
                "data": [{"id": f"cnli_{key}", "invoice_line_item": line or None, "amount": given}],
            },
        }
        if self.old:
            made["refund"] = refund or None
            if self.shape == "2024":  # the oldest of all did not say it
                made["type"] = "pre_payment" if part else "post_payment"
        else:
            refunded = self.refunds[refund]["amount"] if refund else 0
            made |= {
                "pre_payment_amount": part,
                "post_payment_amount": given - part,
                "refunds": [{"refund": refund, "amount_refunded": min(refunded, given - part)}] if refund else [],
            }
        self.notes[key] = made
        if one["status"] == "open":
            one["amount_due"] -= part
            one["amount_remaining"] -= part
            one["pre_payment_credit_notes_amount"] = one.get("pre_payment_credit_notes_amount", 0) + part
        self.tell(at, "credit_note.created", made)
        if one["status"] == "open" and one["amount_remaining"] == 0:
            self._close(at, one)

    def uncredit(self, at: int, key: str) -> None:
        self.notes[key] |= {"status": "void", "voided_at": at}
        self.tell(at, "credit_note.voided", self.notes[key])

    def dispute(self, at: int, key: str, amount: str, charge: str = "ch_1", fee: str = "0") -> None:
        made = {
            "id": key,
            "object": "dispute",
            "amount": int(amount),
            "charge": charge,
            "payment_intent": charge.replace("ch", "pi"),
            "created": at,
            "currency": self.charges[charge]["currency"],
            "status": "needs_response",
            "balance_transactions": [],
        }
        self.disputes[key] = made
        self.tell(at, "charge.dispute.created", made)
        self._move(at, made, -int(amount), int(fee), "charge.dispute.funds_withdrawn")

    def won(self, at: int, key: str, fee: str = "0") -> None:
        made = self.disputes[key]
        made["status"] = "won"
        self.tell(at, "charge.dispute.closed", made)
        self._move(at, made, made["amount"], -int(fee), "charge.dispute.funds_reinstated")

    def grant(self, at: int, key: str, amount: str, category: str = "paid") -> None:
        made = {
            "id": key,
            "object": "billing.credit_grant",
            "amount": _monetary(amount),
            "category": category,
            "created": at,
            "customer": "cus_1",
        }
        self.tell(at, "billing.credit_grant.created", made)
        self._credits(at, f"cbtxn_{key}", key, {"credit": {"type": "credits_granted", "amount": _monetary(amount)}})

    def use(self, at: int, key: str, amount: str, grant: str = "credgr_1", id: str = "in_2", line: int = 1) -> None:
        used = {"invoice": id, "invoice_line_item": f"il_{id[3:]}_{line}"}
        debit = {"type": "credits_applied", "amount": _monetary(amount), "credits_applied": used}
        self._credits(at, key, grant, {"debit": debit})

    def end(self, at: int, key: str, amount: str, grant: str = "credgr_1", how: str = "credits_expired") -> None:
        self._credits(at, key, grant, {"debit": {"type": how, "amount": _monetary(amount), "credits_applied": None}})

    def reinstate(
        self, at: int, key: str, amount: str, grant: str = "credgr_1", id: str = "in_2", line: int = 1
    ) -> None:
        kind = "credits_application_invoice_voided"
        used = {"invoice": id, "invoice_line_item": f"il_{id[3:]}_{line}"}
        self._credits(at, key, grant, {"credit": {"type": kind, "amount": _monetary(amount), kind: used}})

    def _credits(self, at: int, key: str, grant: str, side: Json) -> None:
        kind = "billing.credit_balance_transaction"
        made = {
            "id": key,
            "object": kind,
            "created": at,
            "effective_at": at,
            "credit_grant": grant,
            "type": next(iter(side)),
        }
        self.tell(at, f"{kind}.created", {"credit": None, "debit": None} | made | side)

    def _move(self, at: int, made: Json, amount: int, fee: int, type_: str) -> None:
        moved = {
            "id": f"txn_{made['id']}_{len(made['balance_transactions'])}",
            "object": "balance_transaction",
            "amount": amount,
            "fee": fee,
            "net": amount - fee,
            "currency": made["currency"],
            "created": at,
        }
        made["balance_transactions"].append(moved)
        self.tell(at, type_, made)


def events_of(story: str, shape: str = "endive") -> list[Json]:
    """Tell a story in a shape."""
    teller = Teller(shape)
    for line in filter(str.strip, story.splitlines()):
        date, verb, *words = line.split()
        named = dict(word.split("=", 1) for word in words if "=" in word)
        getattr(teller, verb)(seconds(date), *(word for word in words if "=" not in word), **named)
    return teller.events


def facts_of(events: Sequence[Json]) -> list[Fact]:
    return [
        fact_of(one["id"], one["type"], datetime.fromtimestamp(one["created"], UTC), position, orjson.dumps(one))
        for position, one in enumerate(events, 1)
    ]


def gathered(facts: Sequence[Fact]) -> Facts:
    """Fold facts, given in any order, to natural facts."""
    found = Facts(SUBJECT)
    for fact in in_causal_order(facts):
        if (note := gather.STEPS.get(fact.type)) is not None:
            note(found, fact)
    return found


def books(story: str, shape: str = "endive", policy: str = "second") -> Books:
    return books_of(gathered(facts_of(events_of(story, shape))), POLICIES[policy])


def journal_at(made: Books, until: int) -> list[Entry]:
    """Return every entry up to a moment, with what time has earned by then."""
    posted = [entry for entry in made.journal.entries if entry.at <= until]
    return [*posted, *entries_of_time(earnings(made.bills), until)]


def balances(entries: Sequence[Entry], keep: Callable[[Entry], bool] = lambda _: True) -> dict[str, int]:
    """Sum up accounts, in natural signs."""
    found: dict[str, int] = {}
    for entry in entries:
        if keep(entry):
            assert sum(posting.amount for posting in entry.postings) == 0, entry
            for posting in entry.postings:
                sign = NATURAL[CLASSES[posting.account]]
                found[posting.account] = found.get(posting.account, 0) + sign * posting.amount
    return found


def _monetary(amount: str) -> Json:
    return {"type": "monetary", "monetary": {"currency": "usd", "value": int(amount)}}


def _credits(text: str) -> list[Json]:
    """Read what credits paid of an invoice's first line: ``cbtxn_1:3000,cbtxn_2:100``."""
    parts = [one.split(":") for one in text.split(",") if one]
    return [
        {"type": "credit_balance_transaction", "credit_balance_transaction": key, "amount": int(amount)}
        for key, amount in parts
    ]


def _tax(amount: int, *, old: bool) -> list[Json]:
    if not amount:
        return []
    if old:
        return [{"amount": amount, "inclusive": False, "tax_rate": "txr_1"}]
    return [{"amount": amount, "tax_behavior": "exclusive", "tax_rate_details": {"tax_rate": "txr_1"}}]
