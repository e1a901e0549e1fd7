"""Stripe's own entitlements compared with ours: where the two disagree about a customer at a moment. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from projections.catalog import DEFAULT, Published, catalog_at
from projections.entitlements.answer import answer_all
from projections.entitlements.rows import Holdings


@dataclass(frozen=True, slots=True)
class Compared:
    """Features that one side grants and the other does not; not ``complete`` where Stripe showed a first page only."""

    complete: bool
    only_stripe: list[str]
    only_ledger: list[str]


def compared(holdings: Holdings, published: Sequence[Published], at: datetime) -> Compared | None:
    """Compare, where Stripe lists anything for a holder and the policy is to compare.

    ``only_ledger`` names no more than features that Stripe has listed at some time: it may not know the others.
    """
    policy = (catalog_at(published, at) or DEFAULT).policy
    ever = [row for row in holdings.sources if row.kind == "stripe" and row.valid_from <= at]
    if not ever or policy.stripe_entitlements != "compare":
        return None
    listed = {row.feature: row for row in ever if row.holds_at(at) and row.status == "active"}
    granted = {answer.feature for answer in answer_all(holdings, published, at) if answer.granted}
    return Compared(
        complete=all(row.note is None for row in listed.values()),
        only_stripe=sorted(name for name in listed if name is not None and name not in granted),
        only_ledger=sorted({row.feature for row in ever if row.feature in granted} - set(listed)),
    )
