"""Our own facts: decided by small aggregates of the ``eventsourcing`` library, kept as events like Stripe's.

    class Log(OperatorAggregate):
        def __init__(self) -> None:
            self.origins: list[str] = []

        def open(self, origin: str) -> None:      # a command: it may refuse, or find that nothing is to do
            if origin not in self.origins:
                self._opened(origin)

        @event("Opened", topic="ledger.log.opened")
        def _opened(self, origin: str) -> None:   # a fact: its arguments are the event's content
            self.origins.append(origin)

An aggregate's id is its stream's name and stands in its events (``data.object.id``); where one of them names a
``customer``, projections that join fold them all with that customer's. Versions are 1, 2, 3 …, and whoever comes second
with a version is refused: that is the optimistic concurrency. ``ledger.decisions`` restores, decides and appends.

Sellers name products, prices and coupons as they like, so that a stream may also hold what Stripe says of a product
named ``catalog``: an aggregate passes over it, and goes on after its version.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple, Self

from eventsourcing.domain import BaseAggregate, CanMutateAggregate, MetaDomainEvent

from ledger.errors import LedgerError
from ledger.event import OWN_TYPES, NewEvent, Source
from ledger.times import EPOCH
from ledger.written import json_bytes, read_json

_OF_EVERY_DECISION: Final = frozenset({"originator_id", "originator_version", "timestamp"})
_DIGEST_DIGITS: Final = 8


class UnknownDecisionError(LedgerError):
    """An aggregate's stream holds an event that this release does not know: a later one decided it."""


class Recorded(NamedTuple):
    """What an aggregate is restored from: an event of its stream as it was stored."""

    version: int
    type: str
    created: datetime
    body: bytes


@dataclass(frozen=True)
class Decision(CanMutateAggregate[str], metaclass=MetaDomainEvent):
    """One event of an aggregate of ours, as the library sees it; the other fields are its content."""

    originator_id: str
    originator_version: int
    timestamp: datetime

    @staticmethod
    def create_timestamp() -> datetime:
        """Leave the time to whoever writes the decision down: an aggregate reads no clock."""
        return EPOCH


class OperatorAggregate(BaseAggregate[str]):
    """What decides facts of ours; begins empty, with nothing decided."""

    ADDED: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What later releases added to what a type of event says, and what it is in an event from before."""

    passed_over = 0
    """By how much the stream's versions are ahead of the aggregate's: what is not its own takes versions too."""

    class Event(Decision):
        """The base of its events."""

    @classmethod
    def restore(cls, name: str, events: Iterable[Recorded] = ()) -> Self:
        """Make the aggregate that these events of the stream ``name`` have led to."""
        aggregate = cls.__new__(cls)
        aggregate.__base_init__(name, 0, EPOCH)
        aggregate.__init__()  # type: ignore[misc]  # no subclass's takes an argument: all begin empty
        for one in events:
            if one.type.startswith(OWN_TYPES):
                cls._decision_of(name, one._replace(version=aggregate.version + 1)).mutate(aggregate)
            aggregate.passed_over = one.version - aggregate.version
        return aggregate

    def new_events(self, book: str, now: datetime) -> list[NewEvent]:
        """Take what was decided since it was restored, as events for the log."""
        return [
            operator_event(book, one.originator_id, one.originator_version + self.passed_over, *_said(one), now=now)
            for one in self.collect_events()
            if isinstance(one, Decision)
        ]

    @classmethod
    def _decision_of(cls, name: str, stored: Recorded) -> Decision:
        said = read_json(stored.body)["data"]["object"]
        content = {field: value for field, value in {**cls.ADDED.get(stored.type, {}), **said}.items() if field != "id"}
        for kind in vars(cls).values():
            if isinstance(kind, type) and issubclass(kind, Decision) and getattr(kind, "TOPIC", None) == stored.type:
                with contextlib.suppress(TypeError):  # another release gave it other content
                    return kind(
                        originator_id=name, originator_version=stored.version, timestamp=stored.created, **content
                    )
        raise UnknownDecisionError(f"{name} {stored.version} is a {stored.type} this release does not know")


def _said(decision: Decision) -> tuple[str, dict[str, Any]]:
    """Return a decision's type and the event's ``data.object``: its content, under the aggregate's id."""
    content = {name: value for name, value in vars(decision).items() if name not in _OF_EVERY_DECISION}
    return vars(type(decision))["TOPIC"], {"id": decision.originator_id, **content}


def operator_event(
    book: str, stream: str, version: int, type_: str, content: dict[str, Any], *, now: datetime
) -> NewEvent:
    """Make the event that says ``content`` as version ``version`` of ``stream`` in ``book``.

    Its id is a function of what it says and when, so that the same decision sent twice is the same event, and a
    rival's, of the same version, is another. Ids of one stream sort by version: inside a second, that is the order.
    """
    created = now.replace(microsecond=0)
    said = {"type": type_, "created": int(created.timestamp()), "data": {"object": content}}
    digest = hashlib.sha256(json_bytes(said, sort_keys=True)).hexdigest()[:_DIGEST_DIGITS]
    event_id = f"{stream}-{version:06}-{digest}"
    return NewEvent(
        book=book,
        event_id=event_id,
        type=type_,
        created=created,
        stream_id=f"{book}/{stream}",
        body=json_bytes({"id": event_id, "object": "event", **said, "livemode": True}),
        source=Source.OPERATOR,
        received_at=now,
        version=version,
    )
