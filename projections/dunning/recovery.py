"""What resolved a case: the first that applies of stripe-domain §4.4."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from projections.dunning.facts import Remedy, Snapshot

RecoveredBy = Literal[
    "automatic_retry", "new_payment_method", "network_updater", "customer", "out_of_band", "credit", "unknown"
]


def recovered_by(
    paid: Snapshot,
    before: Snapshot | None,
    stopped: tuple[datetime, int] | None,
    remedies: Iterable[Remedy],
    *,
    off_stripe: bool,
) -> RecoveredBy:
    """Tell what closed an invoice, ``paid`` after ``before``.

    ``stopped`` is when collecting it last came to a stop, with Stripe's count of attempts then.
    """
    if off_stripe:
        return "out_of_band"
    if paid.amount_paid <= (0 if before is None else before.amount_paid):
        return "credit"
    if stopped is not None:
        since, count = stopped
        mended = [one for one in remedies if one.mends and since < one.at <= paid.at]
        if mended:
            return "network_updater" if mended[-1].kind == "method_renewed_by_network" else "new_payment_method"
        if paid.attempt_count > count and not paid.asked:
            return "automatic_retry"
    return "customer" if paid.asked else "unknown"
