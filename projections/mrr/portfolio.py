"""A customer's subscriptions, one step per event, and the spans of time in which each had a given worth.

A projection that needs worth keeps a ``Portfolio`` in its state, passes it every fact (``TYPES``, with
``REFERENCES`` for the terms), and calls ``worth_at`` or iterates over ``spans``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from ledger.event import Json, identifier, mapping
from ledger.observation import OBSERVED, TERMS_OBSERVED
from projections.contract import Terms
from projections.facts import Fact, listing
from projections.mrr.agreement import Agreement, agreement_of, completed, discounts_in, with_more_of
from projections.mrr.amounts import Billed
from projections.mrr.worth import EARNS, Known, Worth, priced, turning_points, worth_of
from projections.shapes.common import amount, first_list, moment, text
from projections.shapes.invoice import Line, is_credited_whole, line_of, subscription_of, subscription_of_line
from projections.shapes.price import Coupon, Discount, Option, coupon_of, discount_of, option_of, sensible

TERMINAL: Final = frozenset({"canceled", "incomplete_expired"})
_NARROWER: Final = ("subscription", "subscription_item", "invoice", "invoice_item", "checkout_session")
"""What a discount may be of: one that names none of these is of all that its customer subscribes to."""
_WHOLE_PERIODS: Final = frozenset({"subscription_cycle", "subscription_create", "subscription_update", "subscription"})


class Span(NamedTuple):
    """What a subscription was worth from ``since`` until ``until`` (None: until now), and the events that say so."""

    subscription: str
    since: datetime
    until: datetime | None
    worth: Worth
    because: tuple[str, ...]


@dataclass(slots=True)
class Life:
    """One subscription: its last agreement, its spans, and when it was first paid.

    The last span has no end; spans that begin after the newest event are caused by time alone.
    """

    agreement: Agreement
    because: str
    spans: list[Span] = field(default_factory=list)
    paid_at: datetime | None = None
    origins: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Portfolio:
    """What one customer subscribes to, and what is known of discounts, tiers and bills: plain data, to be kept."""

    lives: dict[str, Life] = field(default_factory=dict)
    paid: dict[str, datetime] = field(default_factory=dict)
    discounts: dict[str, Discount] = field(default_factory=dict)
    coupons: dict[str, Coupon] = field(default_factory=dict)
    customers: list[str] = field(default_factory=list)
    options: dict[str, Option] = field(default_factory=dict)
    billed: dict[str, Billed] = field(default_factory=dict)

    @property
    def known(self) -> Known:
        """What is needed to work out worth, besides the agreements."""
        return Known(self.discounts, self.coupons, self.customers, self.options, self.billed)


def step(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    """Apply the next event to a customer's subscriptions."""
    if (change := STEPS.get(fact.type)) is not None:
        change(portfolio, fact, terms)


def spans(portfolio: Portfolio) -> Iterable[Span]:
    """Yield every span of every subscription, one subscription after the other, each in order of time."""
    for key in sorted(portfolio.lives):
        yield from portfolio.lives[key].spans


def worth_at(portfolio: Portfolio, subscription: str | None, at: datetime) -> Worth | None:
    """Return what a subscription was worth at a moment; None before it was known."""
    life = portfolio.lives.get(subscription or "")
    return None if life is None else worth_in(life.spans, at)


def worth_in(some: Sequence[Span], at: datetime) -> Worth | None:
    """Return the worth of the span that a moment lies in."""
    return next((span.worth for span in reversed(some) if span.since <= at), None)


def _subscription(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    agreement = agreement_of(fact.subject)
    if agreement is None:
        return
    if fact.type == "customer.subscription.deleted":
        agreement = agreement._replace(status="canceled")
    life = portfolio.lives.get(agreement.subscription)
    if life is not None and life.agreement.status in TERMINAL and agreement.status not in TERMINAL:
        return  # a snapshot from before the end that was rendered late
    if life is not None and agreement.status == "paused" and agreement.pause_reason is None:
        agreement = agreement._replace(pause_reason=_why_paused(life.agreement))
    if life is not None and agreement.truncated:
        agreement = with_more_of(agreement, life.agreement)
    if life is None:
        paid_at = portfolio.paid.get(agreement.subscription)
        life = portfolio.lives[agreement.subscription] = Life(agreement, fact.event_id, paid_at=paid_at)
    news = _learn_discounts(portfolio, discounts_in(fact.subject), fact, terms)
    news = _learn_prices(portfolio, agreement, fact, terms) or news
    if life.spans and agreement == life.agreement and not news:
        return  # a renewal, say: worth what it was
    life.agreement, life.because = agreement, fact.event_id
    life.origins = {name: life.origins.get(name, fact.event_id) for name in _names(agreement)}
    _revalue(portfolio, life, _from(life, fact), fact.event_id)


def _why_paused(before: Agreement) -> str | None:
    """Infer why a subscription is paused if its API version does not say: after past due, for lack of payment."""
    if before.status == "paused":
        return before.pause_reason
    return "final_payment_failure" if before.status == "past_due" else None


def _names(agreement: Agreement) -> Iterable[str]:
    """List what may change an agreement's worth by time alone, so that the event that set it can be named then."""
    yield f"pause {agreement.collection} {agreement.resumes_at}"
    yield from (f"trial {sold.item} {sold.trial_end}" for sold in agreement.items)
    yield from agreement.discounts
    yield from (discount for sold in agreement.items for discount in sold.discounts)


def _from(life: Life, fact: Fact) -> datetime:
    """Return since when an event's snapshot holds; an end holds from its own time, which may precede the event's."""
    ended = life.agreement.ended_at
    if life.agreement.status != "canceled" or ended is None:
        return fact.created
    begun = [span.since for span in life.spans if span.since <= fact.created]
    return min(max([ended, *begun[-1:]]), fact.created)


def _learn_discounts(portfolio: Portfolio, found: Iterable[Discount], fact: Fact, terms: Terms) -> bool:
    """Note discounts and their coupons; return whether any of it is new."""
    news = False
    for discount in found:
        shown = discount._replace(terms=None)
        news |= portfolio.discounts.get(discount.id) != shown
        portfolio.discounts[discount.id] = shown
        coupon = discount.terms
        if shown.coupon is not None and (coupon is None or not coupon.products):
            coupon = _completed(coupon, coupon_of(terms.at("coupon", shown.coupon, fact.created)))
        if coupon is not None and shown.coupon is not None:
            news |= portfolio.coupons.get(shown.coupon) != coupon
            portfolio.coupons[shown.coupon] = coupon
    return news


def _completed(shown: Coupon | None, known: Coupon | None) -> Coupon | None:
    """Return a coupon with what no snapshot shows of it: which products it is for, and other currencies' amounts.

    Sellers may delete a coupon and make another one of its id: it is the same as long as both take off the same.
    """
    if shown is None or known is None:
        return known if shown is None else shown
    same = shown[:3] == known[:3] and set(shown.amounts_off) <= set(known.amounts_off)
    return known if same else shown


def _learn_prices(portfolio: Portfolio, agreement: Agreement, fact: Fact, terms: Terms) -> bool:
    """Look up prices that items do not show in full (tiers, another currency); return whether any of it is new."""
    news = False
    for sold in agreement.items:
        price = sold.price
        foreign = price.currency not in ("", agreement.currency)
        if price.id is not None and (foreign or (price.unit is None and not price.tiers)):
            option = option_of(terms.at("price", price.id, fact.created), agreement.currency)
            name = priced(price.id, agreement.currency)
            if option is not None and portfolio.options.get(name) != option:
                portfolio.options[name], news = option, True
    return news


def _discount(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    discount = discount_of(fact.subject)
    if discount is None:
        return
    gone = fact.type == "customer.discount.deleted"
    if gone:
        discount = discount._replace(end=fact.created if discount.end is None else min(discount.end, fact.created))
    _learn_discounts(portfolio, [discount], fact, terms)
    everywhere = not any(fact.subject.get(one) for one in _NARROWER)
    if everywhere:
        others = [key for key in portfolio.customers if key != discount.id]
        portfolio.customers = others if gone else [*others, discount.id]
    for life in _running(portfolio):
        in_use = [*life.agreement.discounts, *(key for sold in life.agreement.items for key in sold.discounts)]
        if discount.id in in_use or (not life.agreement.discounts and everywhere):
            life.origins[discount.id] = fact.event_id
            _revalue(portfolio, life, fact.created, fact.event_id)


def _customer(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    """Take over the discount that a customer shows for all of its subscriptions (older API versions)."""
    shown = discount_of(mapping(fact.subject.get("discount")))
    held = [shown.id] if shown is not None and shown.subscription is None else []
    if "discount" not in fact.subject or held == portfolio.customers:
        return
    _learn_discounts(portfolio, [shown] if shown else [], fact, terms)
    portfolio.customers = held
    for life in _running(portfolio):
        if not life.agreement.discounts:
            life.origins |= dict.fromkeys(held, fact.event_id)
            _revalue(portfolio, life, fact.created, fact.event_id)


def _customer_deleted(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    """Cancel a deleted customer's subscriptions at once, whatever events follow (stripe-domain §3.4)."""
    for life in _running(portfolio):
        life.agreement = life.agreement._replace(status="canceled", ended_at=fact.created)
        life.because = fact.event_id
        _revalue(portfolio, life, fact.created, fact.event_id)


def _observed(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    """Take in what was observed of a subscription that showed only part: its discounts, or all of its items."""
    if fact.subject.get("kind") == "subscription.items":
        _all_items(portfolio, fact, terms)
    if fact.subject.get("kind") != "subscription.discounts":
        return
    for source in listing(fact.subject):
        _learn_discounts(portfolio, discounts_in(source), fact, terms)
        life = portfolio.lives.get(identifier(source) or "")
        if life is not None:
            _revalue(portfolio, life, fact.created, fact.event_id)


def _all_items(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    life = portfolio.lives.get(identifier(fact.subject.get("of")) or "")
    if life is None or not life.agreement.truncated:
        return
    life.agreement = completed(life.agreement, fact.subject.get("data"))
    _learn_discounts(portfolio, discounts_in({"items": fact.subject.get("data")}), fact, terms)
    _learn_prices(portfolio, life.agreement, fact, terms)
    life.origins = {name: life.origins.get(name, fact.event_id) for name in _names(life.agreement)}
    _revalue(portfolio, life, _from(life, fact), fact.event_id)


def _running(portfolio: Portfolio) -> list[Life]:
    return [life for _, life in sorted(portfolio.lives.items()) if life.agreement.status not in TERMINAL]


def _invoice(portfolio: Portfolio, fact: Fact, terms: Terms) -> None:
    source = fact.subject
    key = subscription_of(source)
    first = fact.type in _PAID and (key is None or key not in portfolio.paid)
    known = _is_no_news(portfolio, key, source)
    if first or not known:
        _learn_discounts(portfolio, discounts_in(source), fact, terms)
    if first:
        _paid(portfolio, key, fact)
    if known:
        return
    if identifier(source.get("id")) is None or text(source.get("billing_reason")) not in _WHOLE_PERIODS:
        return
    lines = [line for line in map(line_of, listing(source.get("lines"))) if line is not None]
    changed = {line.subscription or key or "" for line in lines if _bill(portfolio, key, line, fact)}
    for one in sorted(changed & set(portfolio.lives)):
        _revalue(portfolio, portfolio.lives[one], fact.created, fact.event_id)


def _is_no_news(portfolio: Portfolio, key: str | None, source: Json) -> bool:
    """Return whether an invoice says nothing about worth, without reading its lines: nearly all say nothing."""
    life = portfolio.lives.get(key or "")
    if life is None:
        return False
    taxes = first_list(source, "total_taxes", "total_tax_amounts")
    contained = any(tax.get("tax_behavior") == "inclusive" or tax.get("inclusive") is True for tax in taxes)
    return not contained and all(map(life.agreement.shows_price_of, life.agreement.items))


def _paid(portfolio: Portfolio, key: str | None, fact: Fact) -> None:
    """Note the first payment of each subscription on an invoice that was worth something."""
    if (amount(fact.subject.get("total")) or 0) <= 0 or is_credited_whole(fact.subject):
        return
    paid_at = moment(mapping(fact.subject.get("status_transitions")).get("paid_at")) or fact.created
    named = {key, *map(subscription_of_line, listing(fact.subject.get("lines")))}
    for one in sorted(subscription for subscription in named if subscription is not None):
        at = portfolio.paid.setdefault(one, paid_at)
        if one in portfolio.lives:
            portfolio.lives[one].paid_at = at


def _bill(portfolio: Portfolio, key: str | None, line: Line, fact: Fact) -> bool:
    """Note what a line charges for a whole period of an item; a trial's lines, which charge nothing, are ignored."""
    life = portfolio.lives.get(line.subscription or key or "")
    free = line.amount == 0 and (life is None or life.agreement.status not in EARNS)
    if line.item is None or line.proration or free:
        return False
    taxed = max(line.amount - line.discount, 0)
    quantity = sensible(line.quantity)
    billed = Billed(line.price, quantity, line.amount, taxed, line.inclusive_tax, fact.created, fact.event_id)
    before = portfolio.billed.get(line.item)
    # A rate in whole units differs by the rounding of each bill: it is taken anew only with what is sold.
    same = before is not None and before[:2] == billed[:2] and bool(before.contained_tax) == bool(billed.contained_tax)
    if before is not None and same:
        billed = billed._replace(taxed=before.taxed, contained_tax=before.contained_tax)
    if before is not None and before[:5] == billed[:5]:
        return False
    portfolio.billed[line.item] = billed
    return True


def _revalue(portfolio: Portfolio, life: Life, at: datetime, event: str) -> None:
    """Rewrite the spans from ``at`` on: what holds then, and the changes that time alone will cause."""
    life.spans = [span if span.until is None or span.until <= at else span._replace(until=at)
                  for span in life.spans if span.since < at]  # fmt: skip
    known = portfolio.known
    cuts = [at, *turning_points(life.agreement, known, at)]
    for cut in cuts:
        worth = worth_of(life.agreement, known, cut)
        because = (event,) if cut == at else _set_by(life, known, cut)
        _append(life, Span(life.agreement.subscription, cut, None, worth, because))


def _append(life: Life, span: Span) -> None:
    if life.spans:
        last = life.spans[-1]
        if last.worth == span.worth:
            life.spans[-1] = last._replace(until=None)
            return
        life.spans[-1] = last._replace(until=span.since)
    life.spans.append(span)


def _set_by(life: Life, known: Known, cut: datetime) -> tuple[str, ...]:
    """Return the events that set what changes at a moment by time alone."""
    agreement = life.agreement
    names = [f"trial {sold.item} {sold.trial_end}" for sold in agreement.items if sold.trial_end == cut]
    if agreement.resumes_at == cut:
        names.append(f"pause {agreement.collection} {agreement.resumes_at}")
    names += [key for key, discount in known.discounts.items() if discount.end == cut]
    found = dict.fromkeys(life.origins[name] for name in names if name in life.origins)
    return tuple(found) or (life.because,)


_PAID: Final = frozenset({"invoice.paid", "invoice.payment_succeeded"})

STEPS: Final[dict[str, Callable[[Portfolio, Fact, Terms], None]]] = {
    **dict.fromkeys(
        (
            "customer.subscription.created",
            "customer.subscription.updated",
            "customer.subscription.deleted",
            "customer.subscription.paused",
            "customer.subscription.resumed",
            "customer.subscription.pending_update_applied",
            "customer.subscription.pending_update_expired",
            "customer.subscription.trial_will_end",
        ),
        _subscription,
    ),
    "customer.discount.created": _discount,
    "customer.discount.updated": _discount,
    "customer.discount.deleted": _discount,
    "customer.created": _customer,
    "customer.updated": _customer,
    "customer.deleted": _customer_deleted,
    "invoice.created": _invoice,
    "invoice.finalized": _invoice,
    "invoice.paid": _invoice,
    "invoice.payment_succeeded": _invoice,
    OBSERVED: _observed,
}
"""What each event type does. Other types change nothing."""

TYPES: Final = frozenset(STEPS)
"""The event types a projection must fold to know worth."""

REFERENCES: Final = frozenset({"coupon.created", "coupon.updated", "price.created", "price.updated", TERMS_OBSERVED})
"""The types of reference objects whose terms determine worth."""
