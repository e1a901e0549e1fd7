"""Observations: what Stripe's API answered, kept as events, so that no fold and no rebuild ever asks (decision 15).

The answers stand in the event's body byte for byte; ``docs/observations.md`` describes the format. An observation
goes to the stream its object's own events go to, and is sorted at the time of the object version it describes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from ledger.cut import elements
from ledger.event import Json, NewEvent, Source, customer_of, identifier, mapping, stream_of
from ledger.times import rfc3339

OBSERVED: Final = "ledger.observation.recorded"
"""An answer about what belongs to a subject: a customer's objects, a product, a list that came truncated."""

TERMS_OBSERVED: Final = "ledger.observation.terms_recorded"
"""An answer about a reference object (coupon, price, plan, promotion code, tax rate): terms that many look up."""

OBSERVATIONS: Final = frozenset({OBSERVED, TERMS_OBSERVED})

REFERENCES: Final = frozenset({"coupon", "price", "plan", "promotion_code", "tax_rate"})
"""The kinds of objects whose terms are book-wide."""

NAMES: Final = ("customer", "payment_intent", "charge", "invoice")
"""What of an object says whose it is; an observation says the same, so that it comes to the same stream."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request to Stripe's API and the exact bytes of what came back."""

    path: str
    query: Mapping[str, str]
    body: bytes
    account: str | None = None
    api_version: str | None = None
    request_id: str | None = None

    def request(self) -> Json:
        """Describe the request as an observation keeps it."""
        return {
            "method": "GET",
            "path": self.path,
            "query": dict(self.query),
            "stripe_account": self.account,
            "stripe_version": self.api_version,
            "request_id": self.request_id,
        }


@dataclass(frozen=True, slots=True)
class Observation:
    """What is observed: ``kind`` of thing, ``of`` which object, whose it is, and ``because`` of which event.

    ``event_id`` comes from ``observation_id``, so that asking again for the same reason is the same event.
    """

    book: str
    kind: str
    of: str
    created: datetime
    observed_at: datetime
    answers: Sequence[Answer]
    names: Mapping[str, str] = field(default_factory=dict)
    because: str | None = None
    event_id: str = ""

    @property
    def type(self) -> str:
        """The event's type: terms are kept apart, since every fold that refers to them reads them all."""
        return TERMS_OBSERVED if self.kind in REFERENCES else OBSERVED


def observation_id(book: str, kind: str, of: str, reason: str) -> str:
    """Name the observation of a thing for a reason: its version, or nothing where one answer is enough for good."""
    told = f"{book}\n{kind}\n{of}\n{reason}"
    return "obs_" + hashlib.sha256(told.encode()).hexdigest()[:32]


def names_of(subject: Json) -> dict[str, str]:
    """Return what an object says of whose it is; it may be one of these itself."""
    found = {name: identifier(subject.get(name)) for name in NAMES} | {"customer": customer_of(subject, {})}
    if (kind := subject.get("object")) in NAMES:
        found[kind] = identifier(subject)
    return {name: value for name, value in found.items() if value is not None}


def observation_event(seen: Observation) -> NewEvent:
    """Make the event that is appended. The answers' bytes are spliced into its body as they are."""
    account, _, mode = seen.book.rpartition(":")
    head: dict[str, Any] = {"id": seen.event_id, "object": "event"}
    if account.startswith("acct_"):
        head["account"] = account
    head |= {"api_version": seen.answers[0].api_version, "created": int(seen.created.timestamp())}
    content = {
        "object": "ledger.observation",
        "kind": seen.kind,
        "of": seen.of,
        "because": seen.because,
        "observed_at": rfc3339(seen.observed_at),
        **seen.names,
        "requests": [answer.request() for answer in seen.answers],
    }
    tail = {
        "livemode": mode == "live",
        "related_object": {"id": seen.of, "type": seen.kind},
        "type": seen.type,
    }
    responses = b",".join(answer.body for answer in seen.answers)
    inner = b'%b,"responses":[%b]}' % (orjson.dumps(content)[:-1], responses)
    body = b'%b,"data":{"object":%b},%b' % (orjson.dumps(head)[:-1], inner, orjson.dumps(tail)[1:])
    return NewEvent(
        book=seen.book,
        event_id=seen.event_id,
        type=seen.type,
        created=seen.created.replace(microsecond=0),
        stream_id=stream_of(seen.book, mapping(orjson.loads(body))),
        body=body,
        source=Source.API,
        received_at=seen.observed_at,
        api_version=seen.answers[0].api_version,
    )


def responses_of(body: bytes) -> list[bytes]:
    """Return the exact bytes of the answers that an observation's body holds."""
    return elements(body, "data", "object", "responses")
