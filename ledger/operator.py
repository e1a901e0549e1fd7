"""Our own facts as events: the same envelope as Stripe's, in a stream with versions 1, 2, 3 … of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from ledger.event import NewEvent, Source


def operator_event(
    book: str, stream: str, version: int, type_: str, content: dict[str, Any], *, now: datetime
) -> NewEvent:
    """Make the event that says ``content`` as version ``version`` of ``stream`` in ``book``.

    Its id is a function of stream and version, so that a decision that is retried is the same event.
    """
    event_id = f"{stream}-{version}"
    created = now.replace(microsecond=0)
    envelope = {
        "id": event_id,
        "object": "event",
        "created": int(created.timestamp()),
        "data": {"object": content},
        "livemode": True,
        "type": type_,
    }
    return NewEvent(
        book=book,
        event_id=event_id,
        type=type_,
        created=created,
        stream_id=f"{book}/{stream}",
        body=orjson.dumps(envelope),
        source=Source.OPERATOR,
        received_at=now,
        version=version,
    )
