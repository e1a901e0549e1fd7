"""The choices a company makes about its books; each is a named policy, and every other rule is fixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from ledger.catalogs import PUBLISHED, STREAM
from ledger.event import Json
from ledger.times import parse_rfc3339
from projections.catalog import CatalogError, parse_catalog
from projections.contract import Terms
from projections.mrr.movements import GROUP

CATALOG: Final = (PUBLISHED.rpartition(".")[0], STREAM)
"""The kind and id of the reference object whose forms are the catalogs that were published."""

Granularity = Literal["second", "day", "month"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How revenue is earned over a period, and what comes back after it was given up.

    ``recover_as_gains``: what a won dispute or a payment after a write-off brings for service not yet rendered is a
    gain; otherwise it is deferred again. ``tax_relief``: tax on a bad debt is no longer owed. ``prepaid`` are the
    products and prices that sell billing credits: no choice but a fact, which holds under every named policy.
    ``group``: how long after a first change of MRR others are one movement with it.
    """

    granularity: Granularity = "second"
    recover_as_gains: bool = True
    tax_relief: bool = False
    prepaid: frozenset[str] = frozenset()
    group: timedelta = GROUP


POLICIES: Final[dict[str, Policy]] = {
    "second": Policy(),
    "day": Policy("day"),
    "month": Policy("month"),
    "reinstate": Policy(recover_as_gains=False),
    "tax-relief": Policy(tax_relief=True),
}
"""Policies by name, to be asked for beside the published one; the first is what holds until one is published."""


class Ruling(NamedTuple):
    """A policy and since when it holds (unix seconds; None: ever since)."""

    since: int | None
    policy: Policy


def rulings_of(forms: Iterable[tuple[datetime, Json]]) -> list[Ruling]:
    """Return the policies that catalogs published, oldest publication first.

    One begins where its catalog does, but not before the first month that was open when it was published.
    """
    found: list[Ruling] = []
    for _, form in forms:
        since = form.get("revenue_from") or form.get("effective_from")
        try:
            said = parse_catalog(str(form.get("content"))).revenue
            at = None if since is None else int(parse_rfc3339(str(since)).timestamp())
        except (CatalogError, ValueError):
            continue
        policy = Policy(
            granularity=said.granularity,
            recover_as_gains=said.recover_as_gains,
            tax_relief=said.tax_relief_on_bad_debt,
            prepaid=frozenset(said.prepaid_credits),
            group=timedelta(minutes=said.group_minutes),
        )
        found.append(Ruling(at, policy))
    return found


def published(terms: Terms) -> list[Ruling]:
    """Return the policies that a book's catalogs published."""
    return rulings_of(terms.forms(*CATALOG))


def policy_at(rulings: Sequence[Ruling], at: int) -> Policy:
    """Return the policy in force: of those that hold already the one with the latest beginning, then the newest."""
    holding = [one for one in rulings if one.since is None or one.since <= at]
    if not holding:
        return POLICIES["second"]
    return max(enumerate(holding), key=lambda one: (one[1].since or 0, one[0]))[1].policy
