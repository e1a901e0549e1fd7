"""One-time purchases: through Checkout, paid now or days later, and by lines of an invoice (stripe-domain §3.4).

A purchase's status is recomputed from all that is known about it, so it does not matter what became known first.
"""

from __future__ import annotations

from typing import Final

from ledger.event import Json, identifier, mapping
from projections.entitlements.rows import SourceRow
from projections.entitlements.state import Payment, Purchase, Sold, State, belong, belong_all, open_items, put, remove
from projections.facts import Fact, listing
from projections.shapes.common import amount, first_id, has_more, text, text_at
from projections.shapes.invoice import Line, lines_sold_once
from projections.shapes.price import exact, sensible

_PENDING, _FAILED, _PAID = 1, 2, 3
_STATUSES: Final = {_PENDING: "pending", _FAILED: "failed", _PAID: "paid"}
_PAID_WORDS: Final = frozenset({"paid", "no_payment_required"})
_NO_THREAT: Final = frozenset({"won", "prevented"})


def session_changed(state: State, fact: Fact) -> None:
    """Take a Checkout session: a purchase where it is for a payment, else only whose it is."""
    session = fact.subject
    key = identifier(session)
    if key is None:
        return
    _take_org(state, key, fact)
    if session.get("mode") != "payment":
        return
    purchase = state.purchases.setdefault(key, Purchase())
    if text(session.get("payment_status")) in _PAID_WORDS:
        reached = _PAID
    else:
        reached = _FAILED if fact.type == "checkout.session.async_payment_failed" else _PENDING
    purchase.paid = max(purchase.paid, reached)
    purchase.invoice = identifier(session.get("invoice")) or purchase.invoice
    if purchase.invoice is not None:
        state.session_of[purchase.invoice] = key
    if not purchase.known:
        _take_lines(purchase, key, session)
    if paid_by := payment_key(state, session.get("payment_intent"), None):
        purchase.payment = paid_by
        payment = state.payments.setdefault(paid_by, Payment())
        payment.amount = payment.amount or amount(session.get("amount_total"))
        purchase.paid = _PAID if payment.captured else purchase.paid
        if key not in payment.purchases:
            payment.purchases.append(key)
    restate(state, key, fact)
    if purchase.invoice is not None and purchase.invoice in state.purchases:
        restate(state, purchase.invoice, fact)


def _take_org(state: State, key: str, fact: Fact) -> None:
    session, orgs = fact.subject, state.orgs
    org = text(session.get("client_reference_id")) or text_at(session.get("metadata"), state.org_metadata_key)
    if org is None:
        return
    sources = [key]
    orgs.session[key] = org
    if subscription := identifier(session.get("subscription")):
        orgs.session[subscription] = org
        sources.append(subscription)
    if first_id(session.get("customer"), session.get("customer_account")):
        orgs.checkout = org
        belong_all(state, fact)
    belong(state, fact, sources)


def _take_lines(purchase: Purchase, key: str, session: Json) -> None:
    metadata = session.get("metadata")
    product, price = text_at(metadata, "ledger_product"), text_at(metadata, "ledger_price")
    if product or price:
        quantity = exact(text_at(metadata, "ledger_quantity") or 1)
        purchase.lines, purchase.known = [Sold(key, product, price, None, quantity)], True
    elif lines := listing(session.get("line_items")):
        take_line_items(purchase, lines)
    else:
        purchase.lines = [Sold(key)]


def take_line_items(purchase: Purchase, lines: list[Json]) -> None:
    """Learn what a purchase is of from its line items."""
    sold = []
    for line in lines:
        price = mapping(line.get("price"))
        item, product = identifier(line), identifier(price.get("product"))
        if item is not None and (price or product):
            quantity = exact(line.get("quantity") if line.get("quantity") is not None else 1)
            sold.append(Sold(item, product, identifier(price), text(price.get("lookup_key")), quantity))
    if sold:
        purchase.lines, purchase.known = sold, True


def line_items_observed(state: State, fact: Fact) -> None:
    """Take the line items of a session, which no event shows."""
    key = identifier(fact.subject.get("of"))
    purchase = state.purchases.get(key or "")
    if key is not None and purchase is not None and not purchase.known:
        take_line_items(purchase, listing(fact.subject))
        restate(state, key, fact)


def invoice_paid(state: State, key: str, fact: Fact) -> None:
    """Take what a paid invoice sold once, beside any subscription."""
    sold = lines_sold_once(fact.subject)
    if not sold and not has_more(fact.subject.get("lines")):
        return
    purchase = state.purchases.setdefault(key, Purchase())
    purchase.paid, purchase.known, purchase.invoice = _PAID, True, key
    _take_sold(state, key, purchase, sold, fact)


def lines_observed(state: State, fact: Fact) -> None:
    """Take all lines of an invoice that showed only the first of them."""
    key = identifier(fact.subject.get("of"))
    purchase = state.purchases.get(key or "")
    if key is not None and purchase is not None:
        _take_sold(state, key, purchase, lines_sold_once({"lines": fact.subject.get("data")}), fact)


def _take_sold(state: State, key: str, purchase: Purchase, sold: list[Line], fact: Fact) -> None:
    purchase.lines = [Sold(line.id, line.product, line.price, None, sensible(line.quantity)) for line in sold]
    restate(state, key, fact)


def payment_key(state: State, intent: object, charge: object) -> str | None:
    """Name the payment that an intent, a charge or both belong to: by the intent, where one is known."""
    by_intent, by_charge = identifier(intent), identifier(charge)
    if by_intent is not None and by_charge is not None:
        state.intents[by_charge] = by_intent
        if (early := state.payments.pop(by_charge, None)) is not None:
            _merge(state, by_charge, early, by_intent)
    return by_intent or state.intents.get(by_charge or "", by_charge)


def _merge(state: State, charge: str, early: Payment, intent: str) -> None:
    """Let what was known of a charge be known of its intent."""
    into = state.payments.setdefault(intent, Payment())
    into.amount, into.refunded = into.amount or early.amount, max(into.refunded, early.refunded)
    into.parts = early.parts | into.parts
    into.refunds, into.disputes = early.refunds | into.refunds, early.disputes | into.disputes
    into.failed = list(dict.fromkeys((*into.failed, *early.failed)))
    into.purchases = list(dict.fromkeys((*into.purchases, *early.purchases)))
    into.invoices = list(dict.fromkeys((*into.invoices, *early.invoices)))
    if early.captured:
        captured(state, into)
    for invoice in early.invoices:
        named = (intent if one == charge else one for one in state.paid_by[invoice])
        state.paid_by[invoice] = list(dict.fromkeys(named))


def captured(state: State, payment: Payment) -> None:
    """Take it that a payment which was only authorised has been taken: no session tells of that."""
    payment.captured = True
    for key in payment.purchases:
        state.purchases[key].paid = _PAID


def restate(state: State, key: str, fact: Fact) -> None:
    """Say anew what a purchase is now."""
    purchase = state.purchases[key]
    covered = _covered_by_session(state, key, purchase)
    lines = [] if covered or not purchase.paid else purchase.lines
    for gone in sorted(open_items(state, key) - {line.item for line in lines}):
        remove(state, key, gone, fact)
    status, partly = _status(state, purchase)
    for line in lines:
        put(state, SourceRow(
            subject=state.subject.stream_id,
            book=state.subject.book,
            customer=state.subject.key,
            kind="purchase",
            source=key,
            item=line.item,
            product=line.product,
            price=line.price,
            lookup_key=line.lookup_key,
            quantity=line.quantity,
            feature=None,
            value=None,
            status=status,
            status_since=fact.created,
            ends_at=None,
            expires_at=None,
            note="partially refunded" if partly else None,
            valid_from=fact.created,
            valid_to=None,
            because=(fact.event_id,),
        ))  # fmt: skip
    belong(state, fact, (key,))


def _covered_by_session(state: State, key: str, purchase: Purchase) -> bool:
    """Tell whether an invoice is that of a session which sold the same already."""
    session = state.purchases.get(state.session_of.get(key, "")) if purchase.invoice == key else None
    return session is not None and session.known


def _status(state: State, purchase: Purchase) -> tuple[str, bool]:
    status = _STATUSES.get(purchase.paid, "pending")
    payments = [payment for key in _payments_of(state, purchase) if (payment := state.payments.get(key)) is not None]
    if status != "paid" or not payments:
        return status, False
    if all(is_refunded(payment) for payment in payments):
        return "refunded", False
    disputes = {dispute_state(payment) for payment in payments}
    if found := next((word for word in ("lost", "disputed") if word in disputes), None):
        return found, False
    return status, any(_came_back(payment) for payment in payments)


def _payments_of(state: State, purchase: Purchase) -> list[str]:
    found = [purchase.payment] if purchase.payment is not None else []
    return found or state.paid_by.get(purchase.invoice or "", [])


def _came_back(payment: Payment) -> int:
    live = sum(amount_ for key, amount_ in payment.refunds.items() if key not in payment.failed)
    unnamed = max(0, payment.refunded - sum(payment.refunds.values()))
    return live + unnamed


def is_refunded(payment: Payment) -> bool:
    """Tell whether all of a payment went back, and arrived."""
    whole = payment.amount or sum(payment.parts.values())
    return whole > 0 and _came_back(payment) >= whole


def dispute_state(payment: Payment) -> str | None:
    """Return ``lost`` or ``disputed`` where a bank takes a payment back; None for mere inquiries and those won."""
    threats = {one for one in payment.disputes.values() if one not in _NO_THREAT and not one.startswith("warning")}
    return "lost" if "lost" in threats else "disputed" if threats else None
