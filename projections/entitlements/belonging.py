"""Which sources count for a holder at a moment: a customer's own with its organisation's grants, or all of an org's.

A source belongs to the organisation named for it, else to its customer's; the first one known applies back to the
source's start (stripe-domain §3.5). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from projections.entitlements.rows import CUSTOMER_ITSELF, ORG_PREFIX, Holdings, OrgRow, SourceRow
from projections.entitlements.standing import ENDED, earliest


def counting(holdings: Holdings, at: datetime) -> list[SourceRow]:
    """Return the rows that count for the holder at ``at``, an org's cut to when they belonged to it."""
    if holdings.holder.startswith(ORG_PREFIX):
        return _of_org(holdings, holdings.holder.removeprefix(ORG_PREFIX))
    orgs = orgs_at(holdings, at)
    return [row for row in holdings.sources if _org_granted_to(row) is None or _org_granted_to(row) in orgs]


def org_at(holdings: Holdings, at: datetime) -> str | None:
    """Return the organisation a holder belongs to at ``at``: the first of them, if there are several."""
    if holdings.holder.startswith(ORG_PREFIX):
        return holdings.holder.removeprefix(ORG_PREFIX)
    return next(iter(orgs_at(holdings, at)), None)


def orgs_at(holdings: Holdings, at: datetime) -> list[str]:
    """Return the organisations of a customer at ``at``: those its running sources belong to, and its own."""
    if not holdings.orgs:
        return []
    running = {row.source for row in holdings.sources if row.holds_at(at) and row.status not in ENDED}
    found = [
        row.org
        for row in sorted(holdings.orgs, key=lambda row: (row.source == CUSTOMER_ITSELF, row.source))
        if row.org is not None and row.holds_at(at) and (row.source in running or row.source == CUSTOMER_ITSELF)
    ]
    return list(dict.fromkeys(found))


def _org_granted_to(row: SourceRow) -> str | None:
    """Return the organisation a grant was made to; None for a customer's own source."""
    return row.customer.removeprefix(ORG_PREFIX) if row.customer.startswith(ORG_PREFIX) else None


def _of_org(holdings: Holdings, org: str) -> list[SourceRow]:
    by_source: dict[tuple[str, str], list[OrgRow]] = {}
    for said in holdings.orgs:
        by_source.setdefault((said.subject, said.source), []).append(said)
    found: list[SourceRow] = []
    for row in holdings.sources:
        if row.customer == holdings.holder:
            found.append(row)
            continue
        own = by_source.get((row.subject, row.source)) or by_source.get((row.subject, CUSTOMER_ITSELF)) or []
        found += _cut(row, (said for said in own if said.org == org))
    return found


def _cut(row: SourceRow, times: Iterable[OrgRow]) -> Iterable[SourceRow]:
    for said in times:
        start, end = max(row.valid_from, said.valid_from), earliest(row.valid_to, said.valid_to)
        if end is None or start < end:
            yield row._replace(valid_from=start, valid_to=end)
