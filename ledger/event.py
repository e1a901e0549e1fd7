"""What an event is: facts read from its bytes without translating them, and the stream it belongs to.

Everything here is a pure function of one event, so a rebuild corrects a mistake found later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

import orjson

from ledger.books import book_of
from ledger.errors import MalformedEventError
from ledger.times import from_unix, parse_rfc3339, storable

Json = dict[str, Any]

IDENTIFIER: Final = re.compile(r"[\x21-\x7e]{1,255}")
"""Printable ASCII without spaces: every id, type and version Stripe sends, and nothing a database chokes on."""

OWN_TYPES: Final = "ledger."
"""How the types of our own facts begin. Nobody else says them, whatever it is signed with."""


class Source(StrEnum):
    """How the bytes reached us. Only ``webhook`` events carry Stripe's signature."""

    WEBHOOK = "webhook"
    API = "api"
    IMPORT = "import"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One event on its way into the log.

    ``version`` is None for Stripe's events (it becomes the position) and the next version of the stream for
    our own aggregates. ``body`` is kept byte for byte; ``signature`` is the ``Stripe-Signature`` header as sent.
    """

    book: str
    event_id: str
    type: str
    created: datetime
    stream_id: str
    body: bytes
    source: Source
    received_at: datetime
    api_version: str | None = None
    signature: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The parts of an event's body the log needs to file it; ``account`` is None for the platform's own."""

    event_id: str
    type: str
    created: datetime
    livemode: bool
    account: str | None
    api_version: str | None
    parsed: Json


def parse_envelope(body: bytes) -> Envelope:
    """Read the envelope of a snapshot or thin event off its raw bytes (stripe-domain §1.3 and §1.4).

    Raises ``MalformedEventError`` naming what is missing or wrong.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedEventError(f"the body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise MalformedEventError("the body is not a JSON object")
    api_version = identifier(parsed.get("api_version"))
    return Envelope(
        event_id=_required(parsed, "id"),
        type=_required(parsed, "type"),
        created=_created(parsed.get("created")),
        livemode=_livemode(parsed.get("livemode", False)),
        account=_account(parsed),
        api_version=api_version,
        parsed=parsed,
    )


def received_event(
    envelope: Envelope,
    body: bytes,
    *,
    platform_account: str,
    source: Source,
    received_at: datetime,
    signature: str | None,
) -> NewEvent:
    """Make the event to append from its envelope, its bytes and the circumstances of its arrival.

    Raises ``MalformedEventError`` for a type that only the ledger itself writes: a grant, a catalog, a close.
    """
    if envelope.type.startswith(OWN_TYPES):
        raise MalformedEventError(f"a {envelope.type} is a fact of the ledger's own, which comes from nobody else")
    book = book_of(envelope.account or platform_account, livemode=envelope.livemode)
    return NewEvent(
        book=book,
        event_id=envelope.event_id,
        type=envelope.type,
        created=envelope.created,
        stream_id=stream_of(book, envelope.parsed),
        body=body,
        source=source,
        received_at=received_at,
        api_version=envelope.api_version,
        signature=signature,
    )


def stream_of(book: str, event: Json) -> str:
    """Name the stream an event belongs to: its book, and the first of these that the event names (design decision 7).

    Customer, payment intent, charge, the object's own id, a thin event's related object, the event's own id.
    Objects that name no customer (an invoice payment, a guest's charge) join theirs later, through links.
    """
    data = mapping(event.get("data"))
    subject = mapping(data.get("object"))
    related = mapping(event.get("related_object"))
    key = (
        customer_of(subject, mapping(data.get("previous_attributes")))
        or identifier(subject.get("payment_intent"))
        or identifier(subject.get("charge"))
        or identifier(subject.get("id"))
        or identifier(related.get("id"))
        or identifier(event.get("id"))
    )
    return f"{book}/{key}"


def customer_of(subject: Json, previous: Json) -> str | None:
    """Name the customer an object belongs to, expanded or not; a detached object still names its last one."""
    if subject.get("object") == "customer":
        return identifier(subject.get("id"))
    return (
        identifier(subject.get("customer"))
        or identifier(subject.get("customer_account"))
        or identifier(previous.get("customer"))
    )


def identifier(value: object) -> str | None:
    """Return an id given as text or inside an expanded object; None if there is no usable one."""
    if isinstance(value, dict):
        value = value.get("id")
    if not isinstance(value, str):
        return None
    # The same as IDENTIFIER, but faster: folds call this many times per event.
    return value if 0 < len(value) < 256 and value.isascii() and value.isprintable() and " " not in value else None


def mapping(value: object) -> Json:
    """Return ``value`` when it is a JSON object, else an empty one: payloads are never trusted to have a shape."""
    return value if isinstance(value, dict) else {}


def _required(parsed: Json, key: Literal["id", "type"]) -> str:
    value = parsed.get(key)
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        raise MalformedEventError(f"the event has no usable {key!r}")
    return value


def _created(value: object) -> datetime:
    try:
        if isinstance(value, bool):
            raise MalformedEventError("the event's 'created' is not a time")
        if isinstance(value, int):
            return from_unix(value)
        if isinstance(value, str):
            return storable(parse_rfc3339(value))
    except ValueError as error:
        raise MalformedEventError(f"the event's 'created' is not a time: {error}") from error
    raise MalformedEventError("the event has no usable 'created'")


def _livemode(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise MalformedEventError("the event's 'livemode' is neither true nor false")


def _account(parsed: Json) -> str | None:
    """Read the connected account: ``account`` on snapshots, the ``acct_`` part of ``context`` on thin events."""
    account = parsed.get("account")
    if account is None:
        parts = str(parsed.get("context") or "").split("/")
        account = next((part for part in reversed(parts) if part.startswith("acct_")), None)
    if account is None:
        return None
    if not isinstance(account, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,100}", account):
        raise MalformedEventError("the event's 'account' is not an account id")
    return account
