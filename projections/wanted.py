"""What an event leaves out and Stripe's API must be asked for, judged by its shape (``docs/observations.md``). Pure.

A fold marks as incomplete what its events did not tell; this names the request that completes it. Each request is made
once per reason: for the version that was incomplete, or once for good where the answer never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from ledger.event import Json, identifier, mapping
from ledger.observation import REFERENCES, names_of
from projections.facts import Fact, listing
from projections.shapes.common import has_more, text_at


class Want(NamedTuple):
    """One thing to ask for: its kind, of which object, for which reason; an empty reason means once for good."""

    kind: str
    of: str
    reason: str = ""


UNLESS_KNOWN: Final = frozenset({"coupon"})
"""Kinds that an event may have told of already: such an object is not asked for."""


def wanted_by(fact: Fact) -> list[Want]:
    """Return what must be asked for because of an event, each once."""
    look = _LOOKS.get(str(fact.subject.get("object")))
    return list(dict.fromkeys(look(fact))) if look else []


def names_for(want: Want, fact: Fact) -> dict[str, str]:
    """Return the subject of the answer: the event's own; terms belong to nobody."""
    return {} if want.kind in REFERENCES else names_of(fact.subject)


def _invoice(fact: Fact) -> Iterator[Want]:
    yield from _list_of(fact, "lines", "invoice.lines", final=fact.subject.get("status") != "draft")
    yield from _coupons([fact.subject])


def _credit_note(fact: Fact) -> Iterator[Want]:
    yield from _list_of(fact, "lines", "credit_note.lines")


def _list_of(fact: Fact, key: str, kind: str, *, final: bool = True) -> Iterator[Want]:
    """Want all of a list that shows its first page; one of a draft is not settled yet."""
    own = identifier(fact.subject)
    if own and final and has_more(fact.subject.get(key)):
        yield Want(kind, own)


def _subscription(fact: Fact) -> Iterator[Want]:
    own = identifier(fact.subject)
    if own is None:
        return
    if has_more(fact.subject.get("items")):
        yield Want("subscription.items", own, fact.event_id)
    discounts = fact.subject.get("discounts")
    ids = sorted(one for one in discounts if isinstance(one, str)) if isinstance(discounts, list) else []
    if ids:
        yield Want("subscription.discounts", own, ",".join(ids))
    yield from _coupons([fact.subject])
    for item in listing(fact.subject.get("items")):
        yield from _terms_of(mapping(item.get("price")), fact.subject.get("currency"))


def _price(fact: Fact) -> Iterator[Want]:
    yield from _terms_of(fact.subject, None)


def _terms_of(price: Json, currency: object) -> Iterator[Want]:
    """Want a price that is tiered, or charged in a currency of which it shows no amount."""
    own = identifier(price)
    tiered = price.get("billing_scheme") == "tiered" and not price.get("tiers")
    foreign = currency is not None and price.get("currency") not in (None, currency)
    if own and (tiered or (foreign and not price.get("currency_options"))):
        yield Want("price", own)


def _discount(fact: Fact) -> Iterator[Want]:
    yield from _coupons([{"discount": fact.subject}])


def _customer(fact: Fact) -> Iterator[Want]:
    yield from _coupons([fact.subject])


def _coupons(holders: Iterable[Json]) -> Iterator[Want]:
    """Want the coupons that discounts name without showing them."""
    for holder in holders:
        for discount in [mapping(holder.get("discount")), *listing(holder.get("discounts"))]:
            coupon = mapping(discount.get("source")).get("coupon") or discount.get("coupon")
            if isinstance(coupon, str) and identifier(coupon):
                yield Want("coupon", coupon)


def _charge(fact: Fact) -> Iterator[Want]:
    yield from _balance_transaction(fact)
    if fact.subject.get("status") == "failed":
        yield from _invoice_of(fact, fact.subject.get("payment_intent"))


def _payment_intent(fact: Fact) -> Iterator[Want]:
    if fact.type == "payment_intent.payment_failed":
        yield from _invoice_of(fact, fact.subject)


def _invoice_of(fact: Fact, intent: object) -> Iterator[Want]:
    """Want the invoice of a failed payment, unless the payment's shape has a place for it."""
    own = identifier(intent)
    if own and "invoice" not in fact.subject:
        yield Want("invoice_payments", own)


def _balance_transaction(fact: Fact) -> Iterator[Want]:
    named = fact.subject.get("balance_transaction")
    if isinstance(named, str) and identifier(named):
        yield Want("balance_transaction", named)


def _checkout_session(fact: Fact) -> Iterator[Want]:
    own = identifier(fact.subject)
    told = fact.type.startswith("checkout.session.") and fact.subject.get("mode") == "payment"
    if own and told and fact.subject.get("status") == "complete" and not _ours(fact.subject):
        yield Want("checkout.session.line_items", own)


def _ours(session: Json) -> bool:
    return text_at(session.get("metadata"), "ledger_price") is not None


def _summary(fact: Fact) -> Iterator[Want]:
    own = identifier(fact.subject.get("customer"))
    if own and (has_more(fact.subject.get("entitlements")) or fact.subject.get("has_more") is True):
        yield Want("customer.active_entitlements", own, fact.event_id)


def _supplement(fact: Fact) -> Iterator[Want]:
    yield from _coupons(listing(fact.subject))


_LOOKS: Final[dict[str, Callable[[Fact], Iterator[Want]]]] = {
    "charge": _charge,
    "checkout.session": _checkout_session,
    "credit_note": _credit_note,
    "customer": _customer,
    "discount": _discount,
    "entitlements.active_entitlement_summary": _summary,
    "invoice": _invoice,
    "list": _supplement,
    "payment_intent": _payment_intent,
    "price": _price,
    "refund": _balance_transaction,
    "subscription": _subscription,
}
"""Which objects can leave something to be asked. The others say all that is folded of them."""

WATCHED: Final = (
    "charge.", "checkout.session.", "credit_note.", "customer.", "entitlements.", "invoice.", "ledger.observation.",
    "payment_intent.payment_failed", "price.", "refund.",
)  # fmt: skip
"""What the types of events about them begin with."""
