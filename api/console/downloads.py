"""Downloads: the command line's exports, for whoever is signed in.

An export runs in a thread with an event loop of its own, one at a time in a process, so that nothing else waits for it.
The file is whole before its first byte is sent, and is thrown away after its last.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from api.console import rendering
from api.console.frame import Page, Visit
from api.console.picks import month_picked
from api.exporting import Export, export_books
from api.problems import Problem
from ledger.postgres import Database
from projections.periods.months import month_after, month_of

_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "beancount": "text/plain; charset=utf-8",
}
_TABLES: Final = ("csv", "jsonl", "parquet")


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that is exported: its name, what it is in words, who may have it, and how it is written."""

    name: str
    about: str
    scope: str
    formats: tuple[str, ...] = _TABLES


KINDS: Final = {
    one.name: one
    for one in (
        Kind("journal", "the postings of every entry", "revenue:read", (*_TABLES, "beancount")),
        Kind("recognition", "the roll-forward, a row a month", "revenue:read"),
        Kind("mrr", "the movements of MRR", "revenue:read"),
        Kind("events", "the log's events", "events:read"),
    )
}

_WRITING: Final = threading.Lock()
"""Held while an export is written: one at a time in a process."""


async def download(visit: Visit) -> Response:
    """Write an export of some months, and send it."""
    kind = KINDS.get(visit.query("what"))
    if kind is None:
        raise Problem(400, f"what must be one of {', '.join(KINDS)}")
    as_format = visit.query("format")
    if as_format not in kind.formats:
        raise Problem(400, f"{kind.name} is written as {', '.join(kind.formats)}")
    if not visit.may(kind.scope):
        raise Problem(403, f"this key has no scope {kind.scope}")
    last = month_picked(visit, "through", month_of(visit.now))
    first = month_picked(visit, "from", last)
    if first > last:
        raise Problem(400, "from must not be after through")
    name = f"{visit.book.replace(':', '-')}-{kind.name}-{first}-{last}.{as_format}"
    path = Path(tempfile.mkdtemp(prefix="ledger-export-")) / name
    wanted = Export(kind.name, visit.book, _day(first), _day(month_after(last)), as_format, path)
    forget = BackgroundTask(shutil.rmtree, path.parent)
    try:
        await asyncio.to_thread(_write, visit.services.database, wanted)
    except BaseException:
        await forget()
        raise
    return FileResponse(path, 200, dict(rendering.HEADERS), _TYPES[as_format], forget, name)


def _write(database: Database, wanted: Export) -> None:
    if not _WRITING.acquire(blocking=False):
        raise Problem(503, "another export is being written: try again in a moment", headers={"Retry-After": "5"})
    try:
        asyncio.run(export_books(database, wanted, lambda _: None))
    finally:
        _WRITING.release()


def _day(month: str) -> date:
    return date.fromisoformat(f"{month}-01")


PAGES = (Page("/revenue/export", download, ("revenue:read", "events:read")),)
