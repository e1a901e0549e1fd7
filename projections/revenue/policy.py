"""The choices a company makes about its books; each is a named policy, and every other rule is fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Granularity = Literal["second", "day", "month"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How revenue is earned over a period, and what comes back after it was given up.

    ``recover_as_gains``: what a won dispute or a payment after a write-off brings for service not yet rendered is a
    gain; otherwise it is deferred again. ``tax_relief``: tax on a bad debt is no longer owed.
    """

    granularity: Granularity = "second"
    recover_as_gains: bool = True
    tax_relief: bool = False


POLICIES: Final[dict[str, Policy]] = {
    "second": Policy(),
    "day": Policy("day"),
    "month": Policy("month"),
    "reinstate": Policy(recover_as_gains=False),
    "tax-relief": Policy(tax_relief=True),
}
"""Policies by name; the first is the published one until another is published."""
