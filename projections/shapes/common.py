"""What every reader needs: Stripe's times, amounts and metadata, or None for what is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache, wraps
from typing import Final, TypeVar

import orjson

from ledger.errors import BeyondReadingError
from ledger.event import Json, identifier, mapping
from ledger.times import from_unix
from projections.facts import listing

Read = TypeVar("Read")

_BEYOND: Final = 2**63


def remembered(size: int) -> Callable[[Callable[[Json], Read]], Callable[[Json], Read]]:
    """Let a reader remember the last objects it read, byte for byte: most events show what others showed before."""

    def decorate(read: Callable[[Json], Read]) -> Callable[[Json], Read]:
        known: dict[bytes, Read] = {}

        @wraps(read)
        def recall(source: Json) -> Read:
            try:
                key = orjson.dumps(source)
            except TypeError:
                return read(source)  # nested deeper than anybody writes
            if key not in known:
                if len(known) >= size:
                    known.clear()
                known[key] = read(source)
            return known[key]

        return recall

    return decorate


def moment(value: object) -> datetime | None:
    """Return Stripe's seconds as a time; None for null and for what is no time."""
    return _moment(value) if type(value) is int else None


@lru_cache(maxsize=10_000)
def _moment(value: int) -> datetime | None:
    try:
        return from_unix(value)
    except ValueError:
        return None


def amount(value: object) -> int | None:
    """Return an amount in the currency's smallest unit; None for null and for what is no whole number.

    Beyond 64 bits only its first digits were read, so that nothing true can be said: that parks its subject.
    """
    if type(value) is float and abs(value) >= _BEYOND:
        raise BeyondReadingError(value)
    return value if type(value) is int else None


def text(value: object) -> str | None:
    """Return a text that says something."""
    return value if isinstance(value, str) and value else None


def text_at(metadata: object, key: str) -> str | None:
    """Return a non-empty metadata value; an empty one is how Stripe's users remove it."""
    return text(mapping(metadata).get(key))


def currency(source: Json) -> str:
    """Return an object's currency in lower case, empty where it says none."""
    return (text(source.get("currency")) or "").lower()


def total(parts: Iterable[Json], key: str = "amount") -> int:
    """Add up one amount of several objects."""
    return sum(amount(part.get(key)) or 0 for part in parts)


def has_more(value: object) -> bool:
    """Tell whether a list shows only its first page: the whole is not known then."""
    return mapping(value).get("has_more") is True


def first_list(source: Json, *keys: str) -> list[Json]:
    """Return the objects of the first of several keys that holds a list."""
    for key in keys:
        if source.get(key) is not None:
            return listing(source[key])
    return []


def first_id(*values: object) -> str | None:
    """Return the first of several values that is an id or an expanded object with one."""
    for value in values:
        if (found := identifier(value)) is not None:
            return found
    return None
