"""What a route takes and answers, declared once: requests are checked by it, ``/openapi.json`` is written from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from api.access import require
from api.caching import Keeping, kept
from api.parameters import (
    MAX_LIMIT,
    MAX_WAIT_SECONDS,
    read_book,
    read_bound,
    read_identifier,
    read_integer,
    read_seconds,
    read_time,
)
from api.problems import Problem
from api.secrets import ApiKey

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[ASGIApp]]

LAST_POSITION: Final = 2**63 - 1

EXCLUSIVE: Final = (
    ("as_of", "at"), ("known_at", "known_position"), ("build", "known_at"), ("build", "known_position"),
)  # fmt: skip
"""Parameters of which a request gives one."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: its name, the JSON Schema of its text, and what reads it (raising ``Problem``)."""

    name: str
    about: str
    schema: Json
    read: Callable[[str, str], object]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: who may call it, with what, and what comes back.

    ``answers`` are JSON Schemas by status, or the media type where it is no JSON, empty for none; ``body`` is the JSON
    Schema of the request's, ``body_type`` its media type. ``refuses`` are the statuses of its problems beside 400,
    ``keeping`` says how long its good answer may be kept.
    """

    method: str
    path: str
    handler: Handler
    about: str
    answers: Mapping[int, Json | str]
    scope: str | None = None
    query: tuple[Parameter, ...] = ()
    body: Json | None = None
    body_type: str = "application/json"
    refuses: tuple[int, ...] = ()
    idempotent: bool = field(default=False, kw_only=True)
    keeping: Keeping = field(default="never", kw_only=True)

    @property
    def path_names(self) -> list[str]:
        """The values that stand in the path."""
        return re.findall(r"{(\w+)}", self.path)

    async def __call__(self, request: Request) -> ASGIApp:
        """Check what is declared, call the handler, and say how long the answer may be kept."""
        if self.scope is not None:
            key = require(request, self.scope)  # a stranger is not told what is wrong with the question
            if request.scope["query_string"]:
                self._check(request.query_params)
            if key.book is not None:
                self._check_book(request, key)
        answer = await self.handler(request)
        return kept(request, answer, self.keeping) if isinstance(answer, Response) else answer

    def _check(self, given: QueryParams) -> None:
        """Refuse what is unknown, given twice, contradictory or malformed: none of it is silently left out."""
        known = {parameter.name: parameter for parameter in self.query}
        for name, text in given.multi_items():
            if name not in known:
                there_are = f"there are {', '.join(known)}" if known else "there are none"
                raise Problem(400, f"unknown parameter {name!r}: {there_are}", kind="unknown-parameter")
            if len(given.getlist(name)) > 1:
                raise Problem(400, f"{name} is given twice")
            known[name].read(name, text)
        for one, other in EXCLUSIVE:
            if one in given and other in given:
                raise Problem(400, f"{one} and {other} exclude each other")

    def _check_book(self, request: Request, key: ApiKey) -> None:
        """Refuse a key that is for one book what is of another, or of all."""
        if BOOK not in self.query:
            raise Problem(403, "this is of all books, and this key is for one")
        if not key.sees(request.query_params.get("book", key.book or "")):
            raise Problem(403, f"this key is for the book {key.book} alone")


def routes_of(operations: Iterable[Operation]) -> list[Route]:
    """Return one route a path, which knows every method of it: what is not among them is answered 405 with all."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, _handler(methods), methods=list(methods)) for path, methods in paths.items()]


def _handler(methods: Mapping[str, Operation]) -> Handler:
    if len(methods) == 1:
        return next(iter(methods.values())).__call__

    async def handle(request: Request) -> ASGIApp:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return handle


def time_of(name: str, about: str) -> Parameter:
    """Declare a moment."""
    return Parameter(name, about, {"type": "string", "format": "date-time"}, read_time)


def bound_of(name: str, about: str) -> Parameter:
    """Declare where a range begins or ends: a moment, a day or a month."""
    forms: list[Json] = [{"format": "date-time"}, {"format": "date"}, {"pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"}]
    return Parameter(name, about, {"type": "string", "anyOf": forms}, read_bound)


def whole(name: str, about: str, low: int = 0, high: int = LAST_POSITION) -> Parameter:
    """Declare a whole number between two others."""
    schema = {"type": "integer", "minimum": low, "maximum": high, "format": "int64"}
    return Parameter(name, about, schema, lambda named, text: read_integer(named, text, low, high))


def word(name: str, about: str, *words: str) -> Parameter:
    """Declare one of some words."""

    def read(named: str, text: str) -> str:
        if text not in words:
            raise Problem(400, f"{named} is one of {', '.join(words)}")
        return text

    return Parameter(name, about, {"type": "string", "enum": list(words)}, read)


def matching(name: str, about: str, pattern: str, looks: str) -> Parameter:
    """Declare a text of some form; ``looks`` says in words which."""

    def read(named: str, text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Problem(400, f"{named} is {looks}")
        return text

    return Parameter(name, about, {"type": "string", "pattern": f"^{pattern}$"}, read)


def named(name: str, about: str) -> Parameter:
    """Declare an id."""
    return Parameter(name, about, {"type": "string", "pattern": "^[!-~]{1,255}$"}, read_identifier)


BOOK: Final = Parameter(
    "book",
    "The book asked about: one Stripe account in one mode. Default: the key's, or the service's.",
    {"type": "string", "pattern": "^[A-Za-z0-9_]+:[a-z]+$"},
    read_book,
)
AS_OF: Final = time_of("as_of", "The moment asked about: the state after everything with time up to it. Default: now.")
AT: Final = time_of("at", "The same as as_of.")
KNOWN_AT: Final = time_of("known_at", "Answer by what had been recorded by then.")
KNOWN_POSITION: Final = whole("known_position", "Answer by what had been recorded up to this position.")
BUILD: Final = named("build", "Ask this kept build instead of the live one; what it knows ends where it has folded to.")
MIN_POSITION: Final = whole("min_position", "Do not answer before this position is folded.")
WAIT: Final = Parameter(
    "wait",
    "How many seconds to wait for min_position.",
    {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
    lambda named, text: read_seconds(named, text, MAX_WAIT_SECONDS),
)
LIMIT: Final = whole("limit", "How many to list.", 1, MAX_LIMIT)
CURSOR: Final = matching("cursor", "Where to go on: next_cursor of the page before.", r"[A-Za-z0-9_=-]+",
                         "the next_cursor of the page before")  # fmt: skip
WITH_DATA: Final = word("data", "Whether what is in the events is answered as well.", "true", "false")
VERIFY: Final = word("verify", "Whether every sealed row is hashed and compared with the digest.", "true", "false")
PRIOR: Final = word("prior_period", "Whether what changed in closed months is listed too.", "true", "false")
DETAIL: Final = word("detail", "Whether to list what the sums are made of.", "true", "false")

READ: Final = (BOOK, AS_OF, AT, KNOWN_AT, KNOWN_POSITION, BUILD, MIN_POSITION, WAIT)
"""What every read of a projection takes."""

LOG_READ: Final = (BOOK, AS_OF, AT, KNOWN_AT, KNOWN_POSITION, MIN_POSITION, WAIT)
"""What every read of the log takes: it is of no build."""

BESIDE_LOG: Final = (BOOK, AS_OF, AT, MIN_POSITION, WAIT)
"""What a read takes of what is kept beside a book's log."""

_OF_ALL: Final = replace(BOOK, about="Only what is of this book. Default: what is of any.")
_NOW: Final = "Taken as on every read; what is told is as it is now, whatever the moment."

NOW: Final = (replace(AS_OF, about=_NOW), replace(AT, about=_NOW))
"""The moment, where what is told has no past."""

OF_ALL: Final = (_OF_ALL, AS_OF, AT)
"""What a read of all books takes, which a key for one book may not ask."""

NOW_OF_ALL: Final = (_OF_ALL, *NOW)
"""The same, where what is told has no past."""

PAGE: Final = (LIMIT, CURSOR)
"""What every list takes."""
