"""The log: looking for events, what is proven of it, one event with its exact bytes, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final
from urllib.parse import quote

import orjson
from starlette.responses import RedirectResponse, Response

from api.console import rendering
from api.console.doors import time_of
from api.console.frame import NOW, Page, Visit, render
from api.problems import HANDLED, Problem, problem_of
from ledger.reader import StoredEvent, read_event
from ledger.times import rfc3339
from ledger.written import may_exceed_64_bits

READER: Final = ("events:read",)

_PAGE: Final = 50
_SHOWN_BYTES: Final = 200_000
_HOURS_A_PAGE: Final = 500
_CONFLICTS: Final = 20


async def search(visit: Visit) -> Response:
    """Look for events, newest first; and say what is proven of this book's log."""
    if wanted := visit.query("event"):
        return RedirectResponse(visit.url(f"/log/{rendering.segment(wanted)}"), status_code=303)
    events, conflicts, checkpoint, hours = await asyncio.gather(
        _events(visit),
        visit.part("/v1/log/conflicts", limit=_CONFLICTS),
        visit.part("/v1/log/checkpoint", **NOW),
        _hours(visit),
    )
    problem = events if isinstance(events, Problem) else None
    return render(
        visit,
        "log.html",
        events=None if problem else events,
        refused=problem,
        conflicts=conflicts,
        checkpoint=checkpoint,
        hours=hours,
        filtered=any(visit.query(name) for name in ("type", "customer", "position", "time")),
    )


async def _events(visit: Visit) -> Any:
    """Return a page of events, or why what was looked for cannot be."""
    try:
        position, moment = visit.query("position"), time_of(visit.request, "time")
        if position and not position.isdecimal():
            raise Problem(400, "position is a whole number, such as 41")
        return await visit.ask(
            "/v1/events",
            data=False,
            order="desc",
            limit=_PAGE,
            type=visit.query("type") or None,
            customer=visit.query("customer") or None,
            before=min(int(position[:18]) + 1, 2**62) if position else None,
            **({} if moment is None else {"known_at": moment}),
            cursor=visit.query("cursor") or None,
        )
    except HANDLED as error:
        problem = problem_of(error)
        if problem.status != 400:
            raise
        return problem


async def _hours(visit: Visit) -> list[dict[str, Any]]:
    """Return every hour that counts, as far back as Stripe lists events."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await visit.ask("/v1/coverage", limit=_HOURS_A_PAGE, cursor=cursor)
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def show_hours(visit: Visit) -> Response:
    """Show hour by hour what is proven complete, and by what; and what Stripe is still to be asked."""
    asked = visit.part("/v1/observations", limit=_PAGE, cursor=visit.query("cursor") or None)
    hours, observations = await asyncio.gather(_hours(visit), asked)
    days = [(day, _by_hour(some)) for day, some in groupby(reversed(hours), key=lambda one: one["hour"][:10])]
    return render(
        visit,
        "hours.html",
        hours=hours,
        days=days,
        observations=observations,
        asks_stripe=visit.services.settings.stripe_api_key is not None,
    )


def _by_hour(hours: Iterable[dict[str, Any]]) -> list[dict[str, Any] | None]:
    of_day = {int(one["hour"][11:13]): one for one in hours}
    return [of_day.get(hour) for hour in range(24)]


async def show(visit: Visit) -> Response:
    """Show one event: what it is, what it made, and its bytes."""
    event_id = visit.path("event_id")
    event, rows, stored = await asyncio.gather(
        visit.ask("/v1/events/{event_id}", event_id=event_id),
        visit.part("/v1/events/{event_id}/rows", event_id=event_id),
        _stored(visit),
    )
    text = stored.body.decode("utf-8", "replace") if len(stored.body) <= _SHOWN_BYTES else None
    traces = _tables(rows.content["data"]) if rows.shown else []
    return render(
        visit,
        "event.html",
        event=event,
        customer=_customer(event),
        rows=rows,
        traces=traces,
        text=None if text is None else _readable(text),
        size=len(stored.body),
    )


async def _stored(visit: Visit) -> StoredEvent:
    async with visit.services.pool.acquire() as connection:
        event = await read_event(connection, visit.book, visit.path("event_id"))
    if event is None:
        raise Problem(404, f"book {visit.book} has no event {visit.path('event_id')}")
    return event


def _readable(text: str) -> str:
    """Return a body as it came where it has lines, as Stripe's webhooks have; else with lines put in.

    A number beyond 64 bits would not come through that as it is.
    """
    if "\n" in text or may_exceed_64_bits(text.encode()):
        return text
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text


def _customer(event: dict[str, Any]) -> str | None:
    """Return the customer or organisation whose stream an event is in."""
    key = str(event["stream"]).removeprefix(f"{event['book']}/")
    return key if key.startswith(("cus_", "org:")) else None


def _tables(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of an event by table, each with the columns that say something."""
    found = []
    for (projection, build, table), some in groupby(
        data, key=lambda one: (one["projection"], one["build"], one["table"])
    ):
        rows = [one["row"] for one in some]
        columns = [name for name in rows[0] if name != "book" and any(row[name] not in (None, [], "") for row in rows)]
        cells = [[(_cell(row[name]), isinstance(row[name], int)) for name in columns] for row in rows]
        found.append({"projection": projection, "build": build, "table": table, "columns": columns, "rows": cells})
    return found


def _cell(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(_cell, value)) if isinstance(value, list) else str(value)


async def download_raw(visit: Visit) -> Response:
    """Send the exact bytes that were received, as a file."""
    event = await _stored(visit)
    if not event.salt:
        raise Problem(410, f"the body of {event.event_id} was erased on {rfc3339(visit.now)[:10]} or before")
    return _file(event.body, f"{event.event_id}.json", "application/json")


async def download_proof(visit: Visit) -> Response:
    """Send the proof that an event stands in the log, as a file."""
    event_id = visit.path("event_id")
    proof = await visit.ask("/v1/log/proof/{event_id}", event_id=event_id)
    return _file(proof.encode(), f"{event_id}.tlog-proof", "text/plain")


async def download_checkpoint(visit: Visit) -> Response:
    """Send the newest signed head of the book, as a file."""
    note = await visit.ask("/v1/log/checkpoint", **NOW)
    return _file(note.encode(), f"{visit.book.replace(':', '-')}.checkpoint", "text/plain")


def _file(content: bytes, name: str, media_type: str) -> Response:
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Response(content, media_type=media_type, headers={**rendering.HEADERS, "Content-Disposition": disposition})


PAGES: Final = (
    Page("/log", search, scopes=READER, nav="Log", sample="/log"),
    Page("/log-hours", show_hours, scopes=READER, sample="/log-hours"),
    Page("/log-checkpoint", download_checkpoint, scopes=READER, sample="/log-checkpoint"),
    Page("/log/{event_id}", show, scopes=READER),
    Page("/log/{event_id}/raw", download_raw, scopes=READER),
    Page("/log/{event_id}/proof", download_proof, scopes=READER),
)
