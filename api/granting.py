"""Catalogs and grants as facts: what people decide about access, behind both HTTP and the command line.

A grant is in the stream of its holder; its id is derived from the request's Idempotency-Key, so that a retry grants
nothing twice.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson

from ledger.appender import Appender
from ledger.catalogs import PUBLISHED, STREAM, Catalogs, Publication
from ledger.decisions import decide, restore
from ledger.errors import KeyUsedError, MistakeError
from ledger.event import NewEvent, Source
from ledger.reader import read_event
from ledger.times import EPOCH, parse_rfc3339, rfc3339, storable
from ledger.written import json_bytes
from projections.catalog import Kind, Published, catalog_at, check_catalog, parse_catalog
from projections.entitlements.holdings import stream_of_holder
from projections.periods.decisions import STREAM as PERIODS
from projections.periods.decisions import Periods
from projections.periods.months import month_end

GRANTED: Final = "ledger.grant.created"
REVOKED: Final = "ledger.grant.deleted"

PUBLISHED_BY: Final = "SELECT count(*) FROM ledger.event WHERE stream_id = $1 AND type = $2 AND position <= $3"


class NoSuchGrantError(MistakeError):
    """There is no grant of that id."""

    def __init__(self, grant_id: str) -> None:
        super().__init__(f"there is no grant {grant_id}")


class MisfitError(MistakeError):
    """A grant's value is not of its feature's kind."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What is granted by hand. ``value`` is None for a yes, a number's text, or a choice."""

    customer: str
    feature: str
    value: str | None
    valid_from: datetime | None
    valid_until: datetime | None
    reason: str

    def content(self, grant_id: str) -> dict[str, Any]:
        """Write the grant as its event says it."""
        return {
            "id": grant_id,
            "object": "ledger.grant",
            "customer": self.customer,
            "feature": self.feature,
            "value": self.value,
            "valid_from": rfc3339(self.valid_from) if self.valid_from else None,
            "valid_until": rfc3339(self.valid_until) if self.valid_until else None,
            "reason": self.reason,
        }


async def read_publications(connection: asyncpg.Connection, book: str, known: int | None = None) -> list[Publication]:
    """Return every catalog a book has published, oldest first; those that were known at a position, if it is given."""
    published = (await restore(connection, Catalogs, book, STREAM)).published
    if known is None:
        return published
    return published[: await connection.fetchval(PUBLISHED_BY, f"{book}/{STREAM}", PUBLISHED, known)]


async def publish_catalog(
    connection: asyncpg.Connection,
    appender: Appender,
    book: str,
    text: str,
    *,
    effective_from: datetime | None,
    by: str,
    now: datetime,
) -> tuple[Publication, int | None]:
    """Publish a catalog; return it and its position, which is None where that text holds already.

    Raises ``CatalogError``, and ``MistakeError`` for a time that none can hold from.
    """
    check_catalog(text)
    if effective_from is not None and effective_from > EPOCH:  # from the first instant on is from the beginning
        _check_time(effective_from)
    since = rfc3339(effective_from) if effective_from else None
    closed = (await restore(connection, Periods, book, PERIODS)).closed
    first_open = rfc3339(month_end(closed[-1])) if closed else None
    decided = await decide(
        connection,
        appender,
        Catalogs,
        book,
        STREAM,
        lambda catalogs: catalogs.publish(text, since, rfc3339(now.replace(microsecond=0)), by, first_open),
        now=now,
    )
    return decided.aggregate.published[-1], decided.places[0].position if decided.places else None


def ends_too_soon(start: datetime | None, end: datetime | None, now: datetime) -> bool:
    """Return whether a grant would end before it begins (at ``now``, if no beginning is given)."""
    return end is not None and end <= (start or now.replace(microsecond=0))


async def make_grant(
    connection: asyncpg.Connection,
    appender: Appender,
    book: str,
    grant: Grant,
    *,
    by: str,
    idempotency_key: str | None,
    now: datetime,
) -> tuple[str, int]:
    """Grant; return the grant's id and position. A retry under the same ``idempotency_key`` grants nothing twice.

    What was granted before is answered, whatever has become so since. Raises ``MisfitError`` where the catalog says
    that the feature is of another kind, ``MistakeError`` where it is over before it begins, and ``KeyUsedError``.
    """
    told = f"{book}\n{by}\n{idempotency_key}" if idempotency_key is not None else uuid.uuid4().hex
    grant_id = f"grant_{hashlib.sha256(told.encode()).hexdigest()[:24]}"
    event = _event(book, grant.customer, f"{grant_id}-created", GRANTED, grant.content(grant_id) | {"by": by}, now)
    before = await read_event(connection, book, event.event_id) if idempotency_key is not None else None
    if before is None:
        if ends_too_soon(grant.valid_from, grant.valid_until, now):
            raise MistakeError("valid_until must be after the grant begins")
        for moment in (grant.valid_from, grant.valid_until):
            _check_time(moment)
        await _check_kind(connection, book, grant, now)
        [place] = await appender.append([event])
        if not place.duplicate:
            return grant_id, place.position
        before = await read_event(connection, book, event.event_id)
    if before is None or _content(before.body) != _content(event.body):
        raise KeyUsedError("grant")
    return grant_id, before.position


def _content(body: bytes) -> Any:
    return orjson.loads(body)["data"]["object"]


def _check_time(moment: datetime | None) -> None:
    try:
        storable(moment or EPOCH)
    except ValueError as error:
        raise MistakeError(str(error)) from error


async def _check_kind(connection: asyncpg.Connection, book: str, grant: Grant, now: datetime) -> None:
    known = [_published(one) for one in await read_publications(connection, book)]
    catalog = catalog_at(known, now)
    feature = catalog.features.get(grant.feature) if catalog is not None else None
    if feature is None:
        return
    given: Kind = "boolean" if grant.value is None else "quantity" if _is_number(grant.value) else "choice"
    if given != feature.kind:
        raise MisfitError(f"{grant.feature} is a {feature.kind}, and the value given is a {given}")
    if feature.kind == "choice" and grant.value not in feature.choices:
        raise MisfitError(f"{grant.feature} is one of {', '.join(feature.choices)}")


def _published(one: Publication) -> Published:
    since = parse_rfc3339(one.effective_from) if one.effective_from else None
    return Published(since, parse_catalog(one.content))


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).isdecimal()


async def revoke_grant(
    connection: asyncpg.Connection, appender: Appender, book: str, grant_id: str, *, reason: str, by: str, now: datetime
) -> int:
    """Take a grant back; return the position of that. Done before, it stands. Raises ``NoSuchGrantError``."""
    made = await read_event(connection, book, f"{grant_id}-created")
    if made is None or made.type != GRANTED:
        raise NoSuchGrantError(grant_id)
    ended = await read_event(connection, book, f"{grant_id}-deleted")
    if ended is not None:
        return ended.position
    customer = _content(made.body)["customer"]
    content = {"id": grant_id, "object": "ledger.grant", "customer": customer, "reason": reason, "by": by}
    [place] = await appender.append([_event(book, customer, f"{grant_id}-deleted", REVOKED, content, now)])
    return place.position


def _event(book: str, holder: str, event_id: str, type_: str, content: dict[str, Any], now: datetime) -> NewEvent:
    created = now.replace(microsecond=0)
    envelope = {
        "id": event_id,
        "object": "event",
        "created": int(created.timestamp()),
        "data": {"object": content},
        "livemode": not book.endswith(":test"),
        "type": type_,
    }
    return NewEvent(
        book=book,
        event_id=event_id,
        type=type_,
        created=created,
        stream_id=stream_of_holder(book, holder),
        body=json_bytes(envelope),
        source=Source.OPERATOR,
        received_at=now,
    )
