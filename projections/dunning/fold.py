"""Events to facts: what each tells of a customer's invoices, payments, methods and subscriptions (stripe-domain §4.1).

A fold sees its subject's events in causal order and need not defend itself against disorder. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.event import Json, identifier, mapping
from ledger.observation import OBSERVED
from projections.contract import Rows, Subject, Terms
from projections.dunning.facts import CLOSED, MANUAL, Bill, Contract, Credit, Declined, Remedy, Snapshot, State, Turn
from projections.dunning.rows import rows_of_state
from projections.facts import Fact, listing
from projections.mrr import portfolio
from projections.shapes.common import first_id, moment, text
from projections.shapes.invoice import Invoice, invoice_of
from projections.shapes.payment import Failure, charge_of, credit_note_of, intent_of, invoice_payment_of

_TERMINAL: Final = frozenset({"canceled", "incomplete_expired"})
_SIGNALS: Final = frozenset({"payment_failed", "payment_action_required"})


def begin(subject: Subject) -> State:
    """Begin with nothing known of a customer."""
    return State(subject)


def step(state: State, fact: Fact, terms: Terms) -> None:
    """Apply a customer's next event."""
    state.newest = fact.created if state.newest is None else max(state.newest, fact.created)
    portfolio.step(state.portfolio, fact, terms)
    if (change := STEPS.get(fact.type)) is not None:
        change(state, fact)


def rows(state: State) -> Rows:
    """Return what a customer's facts come to."""
    return rows_of_state(state)


def _invoice(state: State, fact: Fact) -> None:
    invoice = invoice_of(fact.subject, lines=False)
    if invoice is None:
        return
    bill = state.bills.get(invoice.id)
    if bill is None:
        bill = state.bills[invoice.id] = _bill(invoice, fact)
    bill.subscription = invoice.subscription or bill.subscription
    for payment in (invoice.payment_intent, invoice.charge):
        _link(state, payment, invoice.id, "exact")
    _first_due(state, invoice, fact)
    snapshot = _snapshot(invoice, fact)
    if bill.status in CLOSED and snapshot.status not in CLOSED:
        _told_late(bill, snapshot)
    else:
        bill.automatic = invoice.collection_method != "send_invoice"  # a draft may still change its mind
        _append(bill, snapshot)


def _bill(invoice: Invoice, fact: Fact) -> Bill:
    return Bill(
        id=invoice.id,
        customer=invoice.customer,
        subscription=invoice.subscription,
        currency=invoice.currency,
        reason=invoice.billing_reason,
        automatic=invoice.collection_method != "send_invoice",
        created=invoice.created or fact.created,
    )


def _snapshot(invoice: Invoice, fact: Fact) -> Snapshot:
    told = fact.type.removeprefix("invoice.")
    return Snapshot(
        at=fact.created,
        event=fact.event_id,
        told=told,
        asked=_asked(fact.body),
        status="void" if told == "deleted" else invoice.status,
        amount_due=invoice.amount_due,
        amount_remaining=invoice.amount_remaining,
        amount_paid=invoice.amount_paid,
        credited=invoice.pre_payment_credit_notes,
        attempt_count=invoice.attempt_count,
        next_attempt=invoice.next_payment_attempt,
        due_date=invoice.due_date,
        finalization_failed=told == "finalization_failed" or invoice.finalization_failed,
        out_of_band=invoice.paid_out_of_band is True or invoice.paid_off_stripe > 0,
    )


def _asked(body: Json) -> bool:
    """Tell whether a request to the API caused an event; the billing engine's own have none."""
    return identifier(body.get("request")) is not None


def _append(bill: Bill, snapshot: Snapshot) -> None:
    last = bill.snapshots[-1] if bill.snapshots else None
    if last is not None and last.shows() == snapshot.shows() and snapshot.told not in _SIGNALS:
        return
    if _is_repeated(bill, snapshot):
        return
    bill.snapshots.append(snapshot)
    trouble = any(one.told in _SIGNALS or one.finalization_failed for one in bill.snapshots)
    if snapshot.status in CLOSED and bill.automatic and not trouble:
        del bill.snapshots[:-2]  # collected without a word: what it was worth before is all that can still matter


def _is_repeated(bill: Bill, snapshot: Snapshot) -> bool:
    """Tell whether another event said the very same of the same time."""
    same = [one for one in bill.snapshots if one.at == snapshot.at and one.told == snapshot.told]
    return any(one.shows() == snapshot.shows() for one in same)


def _told_late(bill: Bill, snapshot: Snapshot) -> None:
    """Take in what an event tells that was rendered after the end: a failure, which came before the end."""
    if snapshot.told not in _SIGNALS:
        return
    end = next(place for place, one in enumerate(bill.snapshots) if one.status in CLOSED)
    before = snapshot._replace(at=min(snapshot.at, bill.snapshots[end].at))
    if not _is_repeated(bill, before):
        bill.snapshots.insert(end, before)


def _first_due(state: State, invoice: Invoice, fact: Fact) -> None:
    if invoice.subscription is None or invoice.amount_due <= 0 or invoice.status == "draft":
        return
    if invoice.billing_reason == MANUAL:
        return
    contract = state.contracts.setdefault(invoice.subscription, Contract())
    own = (invoice.created or fact.created, invoice.id)
    contract.first_due = own if contract.first_due is None else min(contract.first_due, own)


def _link(state: State, payment: str | None, invoice: str | None, how: str) -> None:
    """Note which invoice a payment is for; what an event says stands before what was observed."""
    if payment is not None and invoice is not None:
        known = state.links.get(payment)
        if known is None or (known[1] != "exact" and how == "exact"):
            state.links[payment] = (invoice, how)


def _invoice_payment(state: State, fact: Fact) -> None:
    _paid_by(state, fact.subject, "exact")


def _paid_by(state: State, source: Json, how: str) -> None:
    paid = invoice_payment_of(source)
    if paid is None or paid.invoice is None:
        return
    _link(state, paid.payment_intent, paid.invoice, how)
    _link(state, paid.charge, paid.invoice, how)
    if paid.kind == "payment_record" and paid.status == "paid" and paid.invoice not in state.off_stripe:
        state.off_stripe.append(paid.invoice)


def _observed(state: State, fact: Fact) -> None:
    """Take in what was asked of Stripe: which invoice a failed payment was for."""
    if fact.subject.get("kind") == "invoice_payments":
        for source in listing(fact.subject):
            _paid_by(state, source, "observed")


def _charge(state: State, fact: Fact) -> None:
    charge = charge_of(fact.subject)
    if charge is not None and charge.failure is not None:
        _link(state, charge.payment_intent or charge.id, charge.invoice, "exact")
        _declined(
            state,
            Declined(charge.id, fact.created, fact.event_id, charge.payment_intent, charge.id, charge.invoice,
                     charge.currency, charge.amount, charge.failure),
        )  # fmt: skip


def _intent(state: State, fact: Fact) -> None:
    intent = intent_of(fact.subject)
    if intent is not None:
        _link(state, intent.id, intent.invoice, "exact")
        key = intent.charge or f"{intent.id} {fact.created.isoformat()}"
        failure = intent.failure or Failure(None, None, None, None, None, None)
        _declined(
            state,
            Declined(key, fact.created, fact.event_id, intent.id, intent.charge, intent.invoice, intent.currency,
                     intent.amount, failure),
        )  # fmt: skip


def _declined(state: State, new: Declined) -> None:
    """Note a failed payment; its charge and its intent tell of one attempt, and each what the other leaves out."""
    known = state.declined.get(new.key)
    if known is not None:
        failure = Failure(*(one if one is not None else two
                            for one, two in zip(known.failure, new.failure, strict=True)))  # fmt: skip
        new = known._replace(intent=known.intent or new.intent, invoice=known.invoice or new.invoice, failure=failure)
    state.declined[new.key] = new


def _credit_note(state: State, fact: Fact) -> None:
    note = credit_note_of(fact.subject)
    if note is None or note.invoice is None:
        return
    if fact.type == "credit_note.voided" or note.status == "void":
        state.credits.pop(note.id, None)
        return
    bill = state.bills.get(note.invoice)
    before = note.pre_payment
    if before is None:  # before partial payments, a credit note on an open invoice was all before payment
        before = note.amount if bill is not None and bill.status not in CLOSED else 0
    if before > 0 and note.id not in state.credits:
        state.credits[note.id] = Credit(note.invoice, fact.created, fact.event_id, before)


def _subscription(state: State, fact: Fact) -> None:
    snapshot = fact.subject
    key = identifier(snapshot)
    if key is None:
        return
    contract = state.contracts.setdefault(key, Contract())
    last = contract.turns[-1].status if contract.turns else None
    status = "canceled" if fact.type == "customer.subscription.deleted" else text(snapshot.get("status")) or ""
    if last in _TERMINAL and status not in _TERMINAL:
        return  # a snapshot from before the end that was rendered late
    contract.trialed = contract.trialed or status == "trialing" or moment(snapshot.get("trial_end")) is not None
    if status != last:
        contract.turns.append(Turn(fact.created, fact.event_id, status))
    default = first_id(snapshot.get("default_payment_method"), snapshot.get("default_source"))
    if contract.known and default is not None and default != contract.default:
        _remedy(state, fact, "default_changed", default, subscription=key)
    contract.default, contract.known = default, True
    _note_methods(state, fact)


def _customer(state: State, fact: Fact) -> None:
    if fact.type == "customer.deleted":
        for contract in state.contracts.values():
            if contract.turns and contract.turns[-1].status not in _TERMINAL:
                contract.turns.append(Turn(fact.created, fact.event_id, "canceled"))
        return
    settings = mapping(fact.subject.get("invoice_settings"))
    default = first_id(settings.get("default_payment_method"), fact.subject.get("default_source"))
    in_use = {contract.default for contract in state.contracts.values()}
    if state.methods and default is not None and default != state.default and default not in in_use:
        _remedy(state, fact, "default_changed", default)
    state.default = default
    _note_methods(state, fact, seen=True)


def _note_methods(state: State, fact: Fact, *, seen: bool = False) -> None:
    """Note whether anything could be charged by default, once the customer has been seen."""
    if seen or state.methods:
        has = state.default is not None or any(one.default is not None for one in state.contracts.values())
        if not state.methods or state.methods[-1][1] != has:
            state.methods.append((fact.created, has))


METHODS: Final = {
    "payment_method.attached": ("method_attached", True),
    "payment_method.updated": ("method_updated", True),
    "payment_method.automatically_updated": ("method_renewed_by_network", True),
    "payment_method.detached": ("method_detached", False),
    "customer.source.updated": ("method_updated", True),
    "customer.source.expiring": ("method_expiring", False),
    "setup_intent.succeeded": ("method_set_up", True),
    "setup_intent.setup_failed": ("method_set_up_failed", False),
}
"""What happened to a customer's methods by event type, and whether it lets a payment be tried again."""


def _method(state: State, fact: Fact) -> None:
    kind, mends = METHODS[fact.type]
    named = fact.subject.get("payment_method") if fact.type.startswith("setup_intent.") else fact.subject
    _remedy(state, fact, kind, identifier(named), mends=mends)


def _remedy(
    state: State, fact: Fact, kind: str, method: str | None, *, subscription: str | None = None, mends: bool = True
) -> None:
    told = Remedy(fact.created, fact.event_id, kind, method, subscription, mends)
    if not any(one[2:] == told[2:] and one.at == told.at for one in state.remedies):
        state.remedies.append(told)


_INVOICE_TYPES: Final = (
    "finalized", "updated", "payment_failed", "payment_action_required", "payment_attempt_required", "paid",
    "payment_succeeded", "overdue", "will_be_due", "voided", "marked_uncollectible", "finalization_failed", "sent",
    "deleted",
)  # fmt: skip
_SUBSCRIPTION_TYPES: Final = (
    "created", "updated", "deleted", "paused", "resumed", "pending_update_applied", "pending_update_expired",
    "trial_will_end",
)  # fmt: skip

STEPS: Final[dict[str, Callable[[State, Fact], None]]] = {
    **{f"invoice.{told}": _invoice for told in _INVOICE_TYPES},
    **{f"customer.subscription.{told}": _subscription for told in _SUBSCRIPTION_TYPES},
    **dict.fromkeys(METHODS, _method),
    "invoice_payment.paid": _invoice_payment,
    "charge.failed": _charge,
    "payment_intent.payment_failed": _intent,
    "credit_note.created": _credit_note,
    "credit_note.voided": _credit_note,
    "customer.created": _customer,
    "customer.updated": _customer,
    "customer.deleted": _customer,
    OBSERVED: _observed,
}
"""What each event type does. A type that is not here changes nothing."""
