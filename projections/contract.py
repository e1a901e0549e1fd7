"""What a projection is: a name, a version, tables, and a pure fold from a subject's events to rows.

A new version folds differently: bump ``version`` whenever the fold, or anything it calls, changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projections.facts import Fact

Row = tuple[Any, ...]
Rows = Mapping[str, Sequence[Row]]
"""Rows by table, each in the order of its table's columns."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a fold sees the events of: a stream and the book it is in."""

    book: str
    stream_id: str

    @property
    def key(self) -> str:
        """The id the stream is named after: a customer's, a product's, a guest payment's."""
        return self.stream_id.removeprefix(f"{self.book}/")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a projection. Statements name it without a schema: each build has one of its own.

    The first column of every table is ``subject``, by which it is distributed and rewritten.
    """

    name: str
    columns: tuple[str, ...]
    create: str
    delete: str


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection: which event types it folds, into which tables, and the views people read (by name)."""

    name: str
    version: int
    types: frozenset[str]
    tables: tuple[Table, ...]
    views: Mapping[str, str]
    fold: Callable[[Subject, Sequence[Fact]], Rows]
