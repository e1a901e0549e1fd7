"""What a projection is: a name, a version, tables, and a pure fold from a subject's events to rows.

The fold is three functions: ``begin`` makes a subject's empty state, ``step`` applies one event to it, in causal order
and with access to reference terms, and ``rows`` turns the state into rows. A projection whose subjects live long adds a
fourth, ``settle``, which takes out of the state the rows that no later event will change. Its tables name the column
that says since when a row is final; so an event refolds a subject's last days, not its whole life.

A new version folds differently: bump ``version`` whenever the fold, or anything it calls, changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ledger.event import Json
from projections.facts import Fact

Row = tuple[Any, ...]
Rows = Mapping[str, Sequence[Row]]
"""Rows by table, each in the order of its table's columns."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The unit of folding: a root stream with everything linked below it, in one book."""

    book: str
    stream_id: str

    @property
    def key(self) -> str:
        """The id the stream is named after: a customer's, a product's, a guest payment's."""
        return self.stream_id.removeprefix(f"{self.book}/")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a projection. Statements name it without a schema, since each build has its own.

    The first column of every table is ``subject``, by which it is distributed and rewritten. ``final`` names a time
    column: no event after that time changes the row, and it is null while the row can still change. ``final`` is None
    for a table of which any row can change. Comparisons of builds sum the columns ``amount`` (amount and currency) by
    the time column ``month``.
    """

    name: str
    columns: tuple[str, ...]
    create: str
    final: str | None = None
    month: str | None = None
    amount: tuple[str, str] | None = None

    # Names of tables and columns are constants of this code, never input.

    @property
    def delete_subjects(self) -> str:
        """Delete every row of the subjects ``$1``."""
        return f"DELETE FROM {self.name} WHERE subject = ANY ($1)"  # noqa: S608

    @property
    def delete_open(self) -> str:
        """Delete the rows of the subjects ``$1`` that are not final."""
        return f"DELETE FROM {self.name} WHERE subject = ANY ($1) AND {self.final} IS NULL"  # noqa: S608

    @property
    def delete_between(self) -> str:
        """Delete the rows of the subject ``$1`` that became final after ``$2``, up to ``$3``."""
        return f"DELETE FROM {self.name} WHERE subject = $1 AND {self.final} > $2 AND {self.final} <= $3"  # noqa: S608


class Terms(Protocol):
    """The book-wide objects whose terms change money: coupons, prices with tiers, tax rates.

    Sellers may give a coupon and a price the same id: ``kind`` is what the types of the object's events begin with.
    """

    def forms(self, kind: str, reference: str) -> Sequence[tuple[datetime, Json]]:
        """Return every form the object with this id ever had, each with the time it is from; none if unknown."""

    def at(self, kind: str, reference: str, moment: datetime) -> Json | None:
        """Return the object with this id as it was at a moment (its earliest form for one before); None if unknown."""


class Consumer(Protocol):
    """Is notified of changed rows of the live build, inside the transactions that change them.

    It belongs to the shell, and checks itself whether the build it is told of is the live one. Rebuilds never call it.
    """

    async def changed(self, connection: Any, build_id: str, book: str, position: int, subjects: Sequence[str]) -> None:
        """React to rows written for these subjects, in the transaction that writes them, with its schema entered."""

    async def promoted(self, connection: Any, build_id: str) -> None:
        """React to another build becoming live, in the transaction that makes it so."""

    async def turn(self, connection: Any, build_id: str) -> int:
        """Do what time made due, or what is left over, between steps of the live build; return how much was done."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection: which event types it folds, how, into which tables, and the views people read (by name).

    ``state`` is the type of what ``begin`` makes: a dataclass of plain data, which can be kept and taken up again.
    ``joins`` are the types among ``types`` whose objects may name no customer and are joined to theirs by links.
    ``references`` are types of events about reference objects, looked up through ``Terms`` and not folded.
    ``consumer`` is notified of the live build's rows as they are written.
    ``step_events`` limits how many events of its types are folded in a step, for events that each make very many rows.
    """

    name: str
    version: int
    types: frozenset[str]
    tables: tuple[Table, ...]
    state: type[Any]
    begin: Callable[[Subject], Any]
    step: Callable[[Any, Fact, Terms], None]
    rows: Callable[[Any], Rows]
    settle: Callable[[Any], Rows] | None = None
    views: Mapping[str, str] = field(default_factory=dict)
    joins: frozenset[str] = frozenset()
    references: frozenset[str] = frozenset()
    consumer: Consumer | None = None
    step_events: int | None = None
