"""What a subscription says that matters to its worth: its items and their prices, its status, its discounts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from ledger.event import Json, identifier, mapping
from projections.facts import listing
from projections.shapes.common import currency, has_more, moment, text
from projections.shapes.price import Discount, Price, discount_of, inclusive_percent, price_of, sensible
from projections.shapes.subscription import items_of


class Sold(NamedTuple):
    """One item: how many of what, at which price, with discounts and a trial of its own.

    ``contained_tax`` is the share in percent of the taxes that its price contains, where rates on the item or its
    subscription say so.
    """

    item: str
    product: str | None
    quantity: Decimal
    price: Price
    discounts: tuple[str, ...]
    trial_end: datetime | None
    contained_tax: Decimal | None


class Agreement(NamedTuple):
    """A subscription as one snapshot shows it. ``collection`` is how its collection is paused, empty if it is not.

    ``contained_tax`` is that of items which name no rates of their own; ``truncated`` says that there are more items.
    """

    subscription: str
    currency: str
    status: str
    items: tuple[Sold, ...]
    discounts: tuple[str, ...]
    collection: str
    resumes_at: datetime | None
    ending: bool
    ended_at: datetime | None
    cancel_reason: str | None
    pause_reason: str | None
    contained_tax: Decimal | None
    truncated: bool

    def shows_price_of(self, sold: Sold) -> bool:
        """Tell whether an item's price is all there, untaxed and in the subscription's currency: no bill says more."""
        price = sold.price
        taxed = price.tax_inclusive or sold.contained_tax is not None
        return price.unit is not None and price.currency in ("", self.currency) and not taxed


def agreement_of(source: Json) -> Agreement | None:
    """Read a subscription; None where it has no id."""
    key = identifier(source.get("id"))
    if key is None:
        return None
    pause = mapping(source.get("pause_collection"))
    contained_tax = inclusive_percent(source)
    items = _items(source, contained_tax)
    return Agreement(
        subscription=key,
        # Subscriptions of old shapes say no currency: it is their prices'.
        currency=currency(source) or next((one.price.currency for one in items), ""),
        status=text(source.get("status")) or "",
        items=items,
        discounts=tuple(_ids(source.get("discounts"))) or tuple(_ids([source.get("discount")])),
        collection=text(pause.get("behavior")) or "",
        resumes_at=moment(pause.get("resumes_at")),
        ending=source.get("cancel_at_period_end") is True or moment(source.get("cancel_at")) is not None,
        ended_at=moment(source.get("ended_at")),
        cancel_reason=text(mapping(source.get("cancellation_details")).get("reason")),
        pause_reason=_pause_reason(source),
        contained_tax=contained_tax,
        truncated=has_more(source.get("items")),
    )


def completed(agreement: Agreement, items: object) -> Agreement:
    """Return an agreement of which all items are known now."""
    return agreement._replace(items=_items({"items": items}, agreement.contained_tax), truncated=False)


def with_more_of(agreement: Agreement, before: Agreement) -> Agreement:
    """Return an agreement that shows only its first items with what is known of others: none is gone for that."""
    shown = {sold.item for sold in agreement.items}
    return agreement._replace(items=(*agreement.items, *(sold for sold in before.items if sold.item not in shown)))


def discounts_in(source: Json) -> list[Discount]:
    """Return the discounts that a subscription or an invoice shows whole, its own and those of its parts."""
    parts = (source, *listing(source.get("items")), *listing(source.get("lines")))
    shown = [one for part in parts for one in (part.get("discount"), *_list(part.get("discounts"))) if one]
    found = [discount_of(mapping(one)) for one in shown]
    return [one for one in found if one is not None and one.coupon is not None]


def _items(source: Json, contained_tax: Decimal | None) -> tuple[Sold, ...]:
    whole = {identifier(one.get("id")): one for one in listing(source.get("items"))} or {
        identifier(source.get("id")): source
    }
    found = []
    for item in items_of(source):
        shown = whole.get(item.item, {})
        price = price_of(shown)
        found.append(
            Sold(
                item=item.item,
                product=item.product,
                quantity=_quantity(item.quantity),
                price=price,
                discounts=() if shown is source else tuple(_ids(shown.get("discounts"))),
                trial_end=moment(mapping(shown.get("current_trial")).get("end_date")),
                contained_tax=inclusive_percent(shown) if listing(shown.get("tax_rates")) else contained_tax,
            )
        )
    return tuple(found)


def _quantity(shown: Decimal | None) -> Decimal:
    """Return how many are sold: one where a shape does not say, or says what is no quantity."""
    found = Decimal(1) if shown is None else sensible(shown)
    return Decimal(1) if found is None else found


def _pause_reason(source: Json) -> str | None:
    paused = mapping(mapping(source.get("status_details")).get("paused"))
    return text(mapping(paused.get("subscription")).get("type"))


def _ids(value: object) -> list[str]:
    return [key for key in map(identifier, _list(value)) if key is not None]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
