"""Who would gain or lose what under an unpublished catalog: every holder is answered with it and without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from projections.builds import enter_build
from projections.catalog import Catalog, Published
from projections.contract import Projection
from projections.entitlements.answer import Value, answer_all
from projections.entitlements.holdings import read_catalogs, read_holdings, stream_of_holder
from projections.entitlements.query import Moment
from projections.entitlements.rows import Holdings

HOLDERS: Final = """
SELECT DISTINCT subject
FROM entitlement_source
WHERE book = $1 AND subject > $2
ORDER BY subject
LIMIT $3
"""

COUNT: Final = "SELECT count(DISTINCT subject) FROM entitlement_source WHERE book = $1"

_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """An answer that a catalog would change; a value of None is a no."""

    customer: str
    feature: str
    before: Value
    after: Value

    @property
    def change(self) -> str:
        """What the customer would notice."""
        return "gained" if self.before is None else "lost" if self.after is None else "changed"


async def count_holders(connection: asyncpg.Connection, projection: Projection, book: str) -> int:
    """Return how many holders a preview looks at. Needs a transaction."""
    await enter_build(connection, projection.name, book)
    return int(await connection.fetchval(COUNT, book))


async def preview(
    connection: asyncpg.Connection, projection: Projection, book: str, catalog: Catalog, now: datetime
) -> AsyncIterator[tuple[int, list[Difference]]]:
    """Give, some holders at a time, how many were looked at and what would be other for them from now on.

    Needs a transaction, so that all are of one snapshot.
    """
    await enter_build(connection, projection.name, book)
    before = await read_catalogs(connection, book)
    after = (*before, Published(now if before else None, catalog))
    last = stream_of_holder(book, "")
    while rows := await connection.fetch(HOLDERS, book, last, _AT_ONCE):
        holders = [row["subject"].removeprefix(f"{book}/") for row in rows]
        last = rows[-1]["subject"]
        holdings = await read_holdings(connection, book, holders)
        yield len(holders), [one for each in holdings.values() for one in _differences(each, before, after, now)]


def _differences(
    holdings: Holdings, before: tuple[Published, ...], after: tuple[Published, ...], now: datetime
) -> list[Difference]:
    at = Moment(now).among(holdings)
    old, new = _granted(holdings, before, at), _granted(holdings, after, at)
    return [
        Difference(holdings.holder, feature, old.get(feature), new.get(feature))
        for feature in sorted({*old, *new})
        if old.get(feature) != new.get(feature) or (feature in old) != (feature in new)
    ]


def _granted(holdings: Holdings, published: tuple[Published, ...], at: datetime) -> dict[str, Value]:
    # What is granted without an amount (metered, or a choice nobody lists) is still a yes.
    answers = (answer for answer in answer_all(holdings, published, at) if answer.granted)
    return {answer.feature: True if answer.value is None else answer.value for answer in answers}
