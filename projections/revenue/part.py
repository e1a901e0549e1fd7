"""A part of the revenue projection: a small fold of its own with its own tables, beside others over the same events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from projections.contract import Rows, Subject, Table, Terms
from projections.facts import Fact


@dataclass(frozen=True, slots=True)
class Part:
    """What a part folds and into what. ``name`` is the field of ``fold.State`` that holds its state.

    ``rows`` takes the state of all parts: what one's rows say may depend on what another has folded.
    """

    name: str
    types: frozenset[str]
    tables: tuple[Table, ...]
    begin: Callable[[Subject], Any]
    step: Callable[[Any, Fact, Terms], None]
    rows: Callable[[Any], Rows]
    views: Mapping[str, str] = field(default_factory=dict)
    references: frozenset[str] = frozenset()
