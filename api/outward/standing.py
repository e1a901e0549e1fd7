"""What the entitlement projection holds of subscriptions and of Stripe's own entitlements, beside what Stripe says now.

The log may know an object's last state and the rows still say something else: a subject is parked, or a fold is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

import asyncpg

from ledger.event import Json, identifier
from projections.builds import enter_build
from projections.contract import Projection, Subject
from projections.drift import Drift
from projections.facts import Fact
from projections.folding import rows_of
from projections.observed import type_of

ENTITLEMENTS: Final = "entitlements"

SUBSCRIPTIONS: Final = """
SELECT source, item, price, quantity, status
FROM entitlement_source
WHERE subject = ANY ($1) AND kind = 'subscription' AND valid_to IS NULL
"""

STRIPES_OWN: Final = """
SELECT feature
FROM entitlement_source
WHERE subject = $1 AND kind = 'stripe' AND valid_to IS NULL AND status = 'active'
"""

WITH_STRIPES_OWN: Final = """
SELECT DISTINCT customer
FROM entitlement_source
WHERE book = $1 AND kind = 'stripe'
ORDER BY customer
"""

Held = dict[str, tuple[str | None, Decimal | None, str]]
"""By item: its price, how many, and the status."""


async def caught_up(connection: asyncpg.Connection, book: str) -> bool:
    """Whether there is a live build that has folded the whole log; its schema is entered for the transaction."""
    freshness = await enter_build(connection, ENTITLEMENTS, book)
    return freshness.build is not None and freshness.position == freshness.head


async def subscriptions_differing(
    connection: asyncpg.Connection, projection: Projection, book: str, theirs: Sequence[Json], now: datetime
) -> list[Drift]:
    """Return the subscriptions of which the rows are not what the fold makes of Stripe's present object alone."""
    subjects = sorted({f"{book}/{identifier(one.get('customer'))}" for one in theirs})
    held: dict[str, Held] = {}
    for row in await connection.fetch(SUBSCRIPTIONS, subjects):
        held.setdefault(row["source"], {})[row["item"]] = (row["price"], row["quantity"], row["status"])
    found = ((one, held.get(str(one.get("id")), {}), _folded(projection, book, one, now)) for one in theirs)
    return [_drift(one, ours, wanted) for one, ours, wanted in found if ours != wanted]


async def features_of(connection: asyncpg.Connection, book: str, customer: str) -> set[str]:
    """Return the features that Stripe's own entitlements give a customer, as the projection has it."""
    return {row["feature"] for row in await connection.fetch(STRIPES_OWN, f"{book}/{customer}")}


async def customers_with_stripes_own(connection: asyncpg.Connection, book: str) -> list[str]:
    """Return the customers of whom Stripe ever told entitlements of its own."""
    return [row["customer"] for row in await connection.fetch(WITH_STRIPES_OWN, book)]


def features_differing(customer: str, ours: set[str], entitlements: Iterable[Json]) -> Drift | None:
    """Compare Stripe's active entitlements of a customer with the projection's."""
    theirs = {str(one.get("lookup_key")) for one in entitlements}
    if ours == theirs:
        return None
    fields = {"features": (sorted(ours), sorted(theirs))}
    kind = "entitlements.active_entitlement_summary"
    return Drift(kind, customer, customer, fields, f"{kind}.updated")


def _folded(projection: Projection, book: str, subscription: Json, now: datetime) -> Held:
    subject = Subject(book, f"{book}/{identifier(subscription.get('customer'))}")
    fact = Fact("", type_of(subscription), now, 0, subscription, {}, {}, observed=True)
    [table] = [one for one in projection.tables if one.name == "entitlement_source"]
    folded = (dict(zip(table.columns, row, strict=True)) for row in rows_of(projection, subject, [fact])[table.name])
    return {
        row["item"]: (row["price"], row["quantity"], row["status"])
        for row in folded
        if row["kind"] == "subscription" and row["valid_to"] is None
    }


def _drift(subscription: Json, ours: Held, theirs: Held) -> Drift:
    fields = {
        f"row of {item}": (_words(ours.get(item)), _words(theirs.get(item)))
        for item in sorted(ours.keys() | theirs.keys())
        if ours.get(item) != theirs.get(item)
    }
    return Drift("subscription", str(subscription.get("id")), identifier(subscription.get("customer")), fields, "")


def _words(held: tuple[str | None, Decimal | None, str] | None) -> str | None:
    return None if held is None else f"{held[2]}: {held[1]} of {held[0]}"
