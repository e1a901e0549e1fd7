"""Comparing a build with the live one: every row that differs, with the event that first made the difference.

Both are compared at one position of each book, the lower of theirs. What the other has folded beyond it is refolded
only up to there, by this release's code; so an engineer sees what the code changes, not what has happened since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

import asyncpg

from ledger.errors import LedgerError
from ledger.written import json_bytes
from projections import stored_links, stored_terms
from projections.builds import Build, StillFoldingError, enter, positions_of
from projections.contract import Projection, Subject, Table
from projections.folding import fold
from projections.reading import read_histories

Change = Literal["added", "removed", "changed"]
Cells = dict[str, Any]

KEY_COLUMNS: Final = """
SELECT a.attname
FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = $1::text::regclass AND i.indisprimary
ORDER BY array_position(i.indkey, a.attnum)
"""

COLUMNS: Final = """
SELECT attname
FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""

IN_BOTH: Final = "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL"

NEWS: Final = """
SELECT DISTINCT stream_id
FROM ledger.event
WHERE book = $1 AND position > $2 AND position <= $3 AND type = ANY ($4)
"""

PLACES: Final = """
SELECT book, event_id, position
FROM ledger.event_key
WHERE event_id = ANY ($1)
"""

NOTE_DIFF: Final = """
INSERT INTO ledger.build_diff (build_id, live_build, made_by, positions, summary)
VALUES ($1, $2, $3, $4, $5)
"""


_IDS_AT_ONCE: Final = 10_000


class NotComparableError(LedgerError):
    """One build is ahead of the other, and this release cannot refold what it is ahead by."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs, as it is in the live build and in the other one."""

    table: str
    key: Cells
    change: Change
    old: Cells | None
    new: Cells | None
    first_event: str | None

    @property
    def subject(self) -> str:
        """The subject the row is of."""
        return str(self.key["subject"])


@dataclass(slots=True)
class Comparison:
    """What another build would change, at which positions."""

    build: str
    live: str
    positions: dict[str, int]
    differences: list[Difference] = field(default_factory=list)

    def summary(self, projection: Projection) -> dict[str, Any]:
        """Sum up the differences: by kind, table, customer and month, and the amounts by currency."""
        found = self.differences
        kinds = Counter(one.change for one in found)
        return {
            **{kind: kinds[kind] for kind in ("added", "removed", "changed")},
            "tables": dict(sorted(Counter(one.table for one in found).items())),
            "customers": dict(sorted(Counter(one.subject for one in found).items())),
            "months": dict(sorted(Counter(_month(one, projection) for one in found).items())),
            "amounts": _amounts(found, projection),
        }


async def compare(
    connection: asyncpg.Connection, projection: Projection, build: Build, live: Build, *, customer: str | None = None
) -> Comparison:
    """Compare a build with the live one, in one snapshot. Raises ``NotComparableError`` and ``StillFoldingError``.

    Only tables and columns that both have are compared.
    """
    if build.phase == "folding":
        raise StillFoldingError(build.build_id)
    async with connection.transaction(isolation="repeatable_read"):
        both = [one for one in projection.tables if await connection.fetchval(IN_BOTH, *_names(one, build, live))]
        whole, projection = projection, replace(projection, tables=tuple(both))
        theirs, ours = await positions_of(connection, live.build_id), await positions_of(connection, build.build_id)
        positions = {book: min(theirs.get(book, 0), ours.get(book, 0)) for book in sorted({*theirs, *ours})}
        again_live = await _news(connection, projection, live, positions, theirs)
        again_build = await _news(connection, projection, build, positions, ours)
        comparison = Comparison(build.build_id, live.build_id, positions)
        again = {subject: book for book, some in (*again_live, *again_build) for subject in some}
        refolded: dict[str, dict[str, list[Cells]]] = {}
        for table in projection.tables:
            pairs = await _stored_differences(connection, table, build, live, set(again))
            comparison.differences += await _described(connection, table, build, pairs)
        for subject, book in again.items():
            at = positions[book]
            sides = []
            for side, news in ((live, again_live), (build, again_build)):
                if any(subject in some for one, some in news if one == book):
                    if subject not in refolded:
                        refolded[subject] = await _folded(connection, whole, build, book, subject, at)
                    sides.append(refolded[subject])
                else:
                    sides.append(await _stored(connection, projection, side, subject))
            comparison.differences += await _between(connection, projection, build, live, *sides)
    if customer is not None:
        comparison.differences = [one for one in comparison.differences if one.subject.endswith(f"/{customer}")]
    comparison.differences.sort(key=lambda one: (one.table, _sortable(one.key)))
    return comparison


async def note(connection: asyncpg.Connection, comparison: Comparison, projection: Projection, by: str) -> None:
    """Record who has seen what a build would change."""
    positions, summary = json_bytes(comparison.positions), json_bytes(comparison.summary(projection))
    await connection.execute(NOTE_DIFF, comparison.build, comparison.live, by, positions.decode(), summary.decode())


async def _news(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    positions: Mapping[str, int],
    reached: Mapping[str, int],
) -> list[tuple[str, set[str]]]:
    """Return, by book, the subjects that a build has folded beyond the position of comparison."""
    found: list[tuple[str, set[str]]] = []
    for book, position in positions.items():
        if reached.get(book, 0) <= position:
            continue
        rows = await connection.fetch(NEWS, book, position, reached[book], list(projection.types))
        streams = [row["stream_id"] for row in rows]
        if streams and build.version != projection.version:
            raise NotComparableError(
                f"{build.build_id} has folded {book} up to {reached[book]}, the other build up to {position}, and "
                f"this release folds version {projection.version}, not {build.version}"
            )
        await enter(connection, build.schema_name)
        roots = await stored_links.roots_of(connection, projection, streams)
        found.append((book, set(roots.values())))
    return found


async def _stored_differences(
    connection: asyncpg.Connection, table: Table, build: Build, live: Build, without: set[str]
) -> list[tuple[Cells | None, Cells | None]]:
    """Let the database find the rows that only one of two builds has; pair those of one key."""
    columns = await _common_columns(connection, table, build, live)
    keys = await _key_columns(connection, table, build)
    old = await connection.fetch(_only_in(table, columns, live, build))
    new = await connection.fetch(_only_in(table, columns, build, live))
    return _paired([dict(row) for row in old], [dict(row) for row in new], keys, without)


async def _common_columns(connection: asyncpg.Connection, table: Table, build: Build, live: Build) -> list[str]:
    columns = [[row["attname"] for row in await connection.fetch(COLUMNS, name)] for name in _names(table, build, live)]
    return [name for name in columns[0] if name in columns[1]]


def _names(table: Table, build: Build, live: Build) -> list[str]:
    return [f"{one.schema_name}.{table.name}" for one in (build, live)]


async def _key_columns(connection: asyncpg.Connection, table: Table, build: Build) -> list[str]:
    rows = await connection.fetch(KEY_COLUMNS, f"{build.schema_name}.{table.name}")
    return [row["attname"] for row in rows]


def _only_in(table: Table, columns: Sequence[str], one: Build, other: Build) -> str:
    # Names of schemas, tables and columns are made by this code.
    names = ", ".join(f'"{name}"' for name in columns)
    return f"""
    SELECT {names} FROM {one.schema_name}.{table.name}
    EXCEPT ALL
    SELECT {names} FROM {other.schema_name}.{table.name}
    """  # noqa: S608


def _paired(
    old: Iterable[Cells], new: Iterable[Cells], keys: Sequence[str], without: Iterable[str] = ()
) -> list[tuple[Cells | None, Cells | None]]:
    left = {_key(row, keys): row for row in old if row["subject"] not in without}
    both = [(left.pop(_key(row, keys), None), row) for row in new if row["subject"] not in without]
    return [*both, *((row, None) for row in left.values())]


def _key(row: Cells, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in keys)


async def _folded(
    connection: asyncpg.Connection, projection: Projection, build: Build, book: str, subject: str, at: int
) -> dict[str, list[Cells]]:
    await enter(connection, build.schema_name)
    streams = (await stored_links.streams_below(connection, projection, [subject]))[subject]
    histories = await read_histories(connection, projection.types, streams, at)
    terms = await stored_terms.read_terms(connection, projection, book, at)
    facts = [fact for stream in streams for fact in histories.get(stream, ())]
    rows = fold(projection, Subject(book, subject), facts, terms).rows
    return {
        table.name: [_plain(dict(zip(table.columns, row, strict=True))) for row in rows.get(table.name, ())]
        for table in projection.tables
    }


async def _stored(
    connection: asyncpg.Connection, projection: Projection, build: Build, subject: str
) -> dict[str, list[Cells]]:
    found = {}
    for table in projection.tables:
        statement = f"SELECT * FROM {build.schema_name}.{table.name} WHERE subject = $1"  # noqa: S608 - names of ours
        found[table.name] = [dict(row) for row in await connection.fetch(statement, subject)]
    return found


def _plain(row: Cells) -> Cells:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


async def _between(
    connection: asyncpg.Connection,
    projection: Projection,
    build: Build,
    live: Build,
    old: Mapping[str, list[Cells]],
    new: Mapping[str, list[Cells]],
) -> list[Difference]:
    found: list[Difference] = []
    for table in projection.tables:
        keys, columns = (
            await _key_columns(connection, table, build),
            await _common_columns(connection, table, build, live),
        )
        was, is_ = ([{name: row[name] for name in columns} for row in side[table.name]] for side in (old, new))
        pairs = [pair for pair in _paired(was, is_, keys) if pair[0] != pair[1]]
        found += await _described(connection, table, build, pairs)
    return found


async def _described(
    connection: asyncpg.Connection, table: Table, build: Build, pairs: Iterable[tuple[Cells | None, Cells | None]]
) -> list[Difference]:
    keys = await _key_columns(connection, table, build)
    differing = list(pairs)
    first = await _first_events(connection, differing)
    found = []
    for (old, new), first_event in zip(differing, first, strict=True):
        row = new or old or {}
        change: Change = "changed" if old and new else "added" if new else "removed"
        found.append(Difference(table.name, {name: row[name] for name in keys}, change, old, new, first_event))
    return found


async def _first_events(
    connection: asyncpg.Connection, pairs: Sequence[tuple[Cells | None, Cells | None]]
) -> list[str | None]:
    """Return, for each pair, the earliest event that only one of its rows rests on; if none, that both rest on."""
    because = [_differing_events(old, new) for old, new in pairs]
    ids = sorted({event for some in because for event in some})
    places: dict[tuple[str, str], int] = {}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        rows = await connection.fetch(PLACES, ids[start : start + _IDS_AT_ONCE])
        places |= {(row["book"], row["event_id"]): row["position"] for row in rows}
    found: list[str | None] = []
    for (old, new), some in zip(pairs, because, strict=True):
        book = str((new or old or {}).get("book"))
        known = [(places[book, event], event) for event in some if (book, event) in places]
        found.append(min(known)[1] if known else None)
    return found


def _differing_events(old: Cells | None, new: Cells | None) -> set[str]:
    was, is_ = set((old or {}).get("because") or ()), set((new or {}).get("because") or ())
    return was ^ is_ or was | is_


def _month(one: Difference, projection: Projection) -> str:
    table = next(table for table in projection.tables if table.name == one.table)
    at = (one.new or one.old or {}).get(table.month or "")
    return f"{at:%Y-%m}" if isinstance(at, datetime) else "-"


def _amounts(found: Iterable[Difference], projection: Projection) -> dict[str, int]:
    """Sum by currency what the amounts of rows change by, where a table has amounts."""
    tables = {table.name: table for table in projection.tables}
    sums: dict[str, Decimal] = {}
    for one in found:
        amount = tables[one.table].amount
        for row, sign in ((one.new, 1), (one.old, -1)):
            if amount and row:
                value, currency = row[amount[0]], row[amount[1]]
                sums[currency] = sums.get(currency, Decimal(0)) + sign * (value or 0)
    return {currency: int(total) for currency, total in sorted(sums.items())}


def _sortable(key: Cells) -> tuple[str, ...]:
    return tuple(str(value) for value in key.values())
