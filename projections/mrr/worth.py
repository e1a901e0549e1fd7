"""What an agreement is worth a month at a moment: exact inside each item, rounded once for the subscription."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from projections.mrr.agreement import Agreement, Sold
from projections.mrr.amounts import Billed, Monthly, a_month, monthly
from projections.shapes.price import Coupon, Discount, Option

Policy = Literal["stripe-2026", "all-discounts"]
POLICIES: Final[tuple[Policy, ...]] = ("stripe-2026", "all-discounts")
"""Which discounts count: only those that last for ever (Stripe's own definition), or every one while it runs."""

EARNS: Final = frozenset({"active", "past_due"})
UNCOLLECTED: Final = frozenset({"void", "mark_uncollectible"})


class ItemWorth(NamedTuple):
    """One item's share of its subscription's worth."""

    item: str
    product: str | None
    price: str | None
    gross: int
    net_forever: int
    net_all: int


class Worth(NamedTuple):
    """A subscription's worth per month: before discounts, after those that last for ever, after all of them.

    ``reason`` says why it is zero (its status, ``collection_paused`` or ``trialing``) and is empty where it counts.
    ``incomplete`` names what events have not told yet.
    """

    currency: str
    gross: int
    net_forever: int
    net_all: int
    items: tuple[ItemWorth, ...]
    reason: str
    involuntary: bool
    flags: tuple[str, ...]
    incomplete: tuple[str, ...]

    def under(self, policy: str) -> int:
        """Return the worth as a policy counts it."""
        return self.net_all if policy == "all-discounts" else self.net_forever


class Known(NamedTuple):
    """What is known besides the agreement: discounts and their coupons, looked-up prices, what was billed.

    ``customers`` are the customer's own discounts: they count where a subscription has none. ``options`` are by
    ``priced(price, currency)``.
    """

    discounts: Mapping[str, Discount]
    coupons: Mapping[str, Coupon]
    customers: Sequence[str]
    options: Mapping[str, Option]
    billed: Mapping[str, Billed]


def worth_of(agreement: Agreement, known: Known, at: datetime) -> Worth:
    """Return what an agreement is worth per month at ``at``."""
    reason = _why_nothing(agreement, at)
    if reason:
        return Worth(agreement.currency, 0, 0, 0, (), reason, _involuntary(agreement, reason), _flags(agreement), ())
    running = [sold for sold in agreement.items if sold.trial_end is None or sold.trial_end <= at]
    found = [_monthly(sold, agreement.currency, known) for sold in running]
    deducting = _Deducting(agreement, running, known, at)
    exact = [one.amount for one in found]
    amounts = [_rounded(_without_tax(exact, found))] * 3
    if deducting.deducts:
        for place, counts in ((1, lambda coupon: coupon.duration == "forever"), (2, lambda _: True)):
            amounts[place] = _rounded(_without_tax(deducting.after(exact, counts), found))
    items = tuple(
        ItemWorth(sold.item, sold.product, sold.price.id, *(some[place] for some in amounts))
        for place, sold in enumerate(running)
    )
    gross, net_forever, net_all = (sum(some) for some in amounts)
    incomplete = {name for one in found for name in one.incomplete} | deducting.incomplete
    if agreement.truncated:
        incomplete.add("items")
    nothing = "" if running or not agreement.items else "trialing"
    return Worth(
        agreement.currency,
        gross,
        net_forever,
        net_all,
        items,
        nothing,
        involuntary=False,
        flags=_flags(agreement),
        incomplete=tuple(sorted(incomplete)),
    )


def priced(price: str, currency: str) -> str:
    """Name a price in a currency."""
    return f"{price} {currency}"


def turning_points(agreement: Agreement, known: Known, after: datetime) -> list[datetime]:
    """Return when the worth may change by time alone."""
    in_use = [*(agreement.discounts or known.customers), *(key for sold in agreement.items for key in sold.discounts)]
    ends = [known.discounts[key].end for key in in_use if key in known.discounts]
    trials = [sold.trial_end for sold in agreement.items]
    moments = (*ends, *trials, agreement.resumes_at if agreement.collection else None)
    return sorted({one for one in moments if one is not None and one > after})


def _why_nothing(agreement: Agreement, at: datetime) -> str:
    if agreement.status not in EARNS:
        return agreement.status or "unknown"
    resumed = agreement.resumes_at is not None and agreement.resumes_at <= at
    return "collection_paused" if agreement.collection in UNCOLLECTED and not resumed else ""


def _involuntary(agreement: Agreement, reason: str) -> bool:
    """Return whether the worth became zero for lack of payment rather than by request (stripe-domain §5.1)."""
    if reason == "paused":
        return agreement.pause_reason in ("first_payment_failure", "final_payment_failure")
    failed = agreement.cancel_reason in ("payment_failed", "payment_disputed")
    return reason == "unpaid" or (reason == "canceled" and failed)


def _flags(agreement: Agreement) -> tuple[str, ...]:
    if agreement.status not in EARNS:
        return ()
    drafts = ("collection_as_draft",) if agreement.collection == "keep_as_draft" else ()
    return (*(("churning",) if agreement.ending else ()), *drafts)


def _monthly(sold: Sold, currency: str, known: Known) -> Monthly:
    option = known.options.get(priced(sold.price.id or "", currency))
    return monthly(sold, currency, option, known.billed.get(sold.item))


class _Deducting:
    """Applies discounts to the items of one subscription: each item's own first, then the subscription's."""

    def __init__(self, agreement: Agreement, items: Sequence[Sold], known: Known, at: datetime) -> None:
        self.incomplete: set[str] = set()
        self._currency = agreement.currency
        self._items = items
        self._own = [list(self._running(sold.discounts, known, at)) for sold in items]
        self._shared = list(self._running(agreement.discounts or known.customers, known, at))

    @property
    def deducts(self) -> bool:
        """Return whether there is any discount to apply."""
        return bool(self._shared or any(self._own))

    def after(self, amounts: Sequence[Fraction], counts: Callable[[Coupon], bool]) -> list[Fraction]:
        """Return the items' amounts after the discounts that count."""
        left = list(amounts)
        for place, coupons in enumerate(self._own):
            for coupon in filter(counts, coupons):
                self._take(coupon, left, [place], a_month(self._items[place].price))
        for coupon in filter(counts, self._shared):
            places = [n for n, sold in enumerate(self._items) if not coupon.products or sold.product in coupon.products]
            # An amount comes off every invoice: there is one as often as the item that is charged most often.
            often = max((a_month(self._items[place].price) for place in places), default=Fraction(0))
            self._take(coupon, left, places, often)
        return left

    def _running(self, keys: Iterable[str], known: Known, at: datetime) -> Iterable[Coupon]:
        for key in keys:
            discount = known.discounts.get(key)
            if discount is not None and discount.end is not None and discount.end <= at:
                continue
            coupon = None if discount is None else known.coupons.get(discount.coupon or "", discount.terms)
            if coupon is None or (coupon.percent_off is None and coupon.amount_off(self._currency) is None):
                self.incomplete.add("discounts")
            else:
                yield coupon

    def _take(self, coupon: Coupon, left: list[Fraction], places: Sequence[int], times: Fraction) -> None:
        whole = sum((left[place] for place in places), Fraction(0))
        if coupon.percent_off is not None:
            share = 1 - Fraction(coupon.percent_off) / 100
        elif whole > 0:
            share = 1 - Fraction(coupon.amount_off(self._currency) or 0) * times / whole
        else:
            return
        for place in places:
            left[place] *= max(share, Fraction(0))


def _without_tax(amounts: Sequence[Fraction], found: Sequence[Monthly]) -> list[Fraction]:
    return [
        amount / (1 + one.contained_tax) if one.contained_tax else amount
        for amount, one in zip(amounts, found, strict=True)
    ]


def _rounded(exact: Sequence[Fraction]) -> list[int]:
    """Round the sum half to even and distribute it by largest remainder; never below zero."""
    total = max(round(sum(exact, Fraction(0))), 0)
    if total == 0 or len(exact) == 1:
        return [total] * len(exact)
    floors = [one.numerator // one.denominator for one in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: (floors[place] - exact[place], place))
    missing = total - sum(floors)
    for place in by_remainder[:missing]:
        floors[place] += 1
    return floors
