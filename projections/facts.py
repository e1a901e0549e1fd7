"""What a fold sees of an event: its identity, Stripe's time, and the body as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import orjson

from ledger.errors import UnreadableEventError
from ledger.event import OWN_TYPES, Json, mapping
from ledger.observation import OBSERVATIONS
from ledger.written import read_json
from projections.observed import seen_in


class Fact(NamedTuple):
    """One event of a subject: ``subject`` is its snapshot (``data.object``), ``previous`` what that changed from.

    Both are empty for thin events, which are stored but never folded. ``position`` is for identification and
    explanation only; no fold may decide by it. ``observed`` means that the fact is an answer of Stripe's API; its type
    is that of the event that would have reported the same. ``unread`` says why the event's body could not be read.
    """

    event_id: str
    type: str
    created: datetime
    position: int
    subject: Json
    previous: Json
    body: Json
    observed: bool = False
    unread: UnreadableEventError | None = None


def fact_of(event_id: str, type_: str, created: datetime, position: int, body: bytes) -> Fact:
    """Parse an event's body for folding; an erased body gives an empty fact."""
    # What we said ourselves holds sums, which may be beyond 64 bits; Stripe's own amounts are not.
    read = read_json if type_.startswith(OWN_TYPES) and type_ not in OBSERVATIONS else orjson.loads
    parsed = mapping(read(body)) if body else {}
    if type_ in OBSERVATIONS and parsed:
        seen = seen_in(parsed)
        return Fact(event_id, seen.type, created, position, seen.subject, {}, parsed, observed=True)
    data = mapping(parsed.get("data"))
    return Fact(
        event_id,
        type_,
        created,
        position,
        mapping(data.get("object")),
        mapping(data.get("previous_attributes")),
        parsed,
    )


def readable(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Yield facts. Raises ``UnreadableEventError`` at one that cannot be read: the rest would give wrong rows."""
    for fact in facts:
        if fact.unread is not None:
            raise fact.unread
        yield fact


def listing(value: object) -> list[Json]:
    """Return the objects of a JSON array or of Stripe's ``{"object": "list", "data": […]}``."""
    if not value:
        return []
    items = value.get("data") if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def number(value: object) -> Decimal | None:
    """Return a JSON number, or Stripe's decimal in a string, exactly; None for anything else.

    ``orjson`` reads fractions as binary floats; their shortest representation is the number that was sent.
    """
    if type(value) is int:
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        exact = Decimal(repr(value) if not isinstance(value, str) else value)
    except ArithmeticError:
        return None
    return exact if exact.is_finite() else None
