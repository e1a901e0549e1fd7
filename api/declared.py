"""Declarations of routes: requests are checked against them, and ``/openapi.json`` is written from them."""

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
"""Pairs of parameters that exclude each other."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: its name, its JSON Schema, and the function that reads it (raising ``Problem``)."""

    name: str
    about: str
    schema: Json
    read: Callable[[str, str], object]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: who may call it, with what, and what comes back.

    ``answers`` are, by status, JSON Schemas, or a media type for an answer other than JSON (empty for no body).
    ``body`` is the JSON Schema of the request's body, ``body_type`` its media type. ``refuses`` are the statuses of its
    problems besides 400; ``keeping`` says how long a successful answer may be cached.
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
        """The names of the values in the path."""
        return re.findall(r"{(\w+)}", self.path)

    async def __call__(self, request: Request) -> ASGIApp:
        """Check the request as declared, call the handler, and set how long the answer may be cached."""
        if self.scope is not None:
            key = require(request, self.scope)  # first: without a key nobody learns what is wrong with the request
            if request.scope["query_string"]:
                self._check(request.query_params)
            if key.book is not None:
                self._check_book(request, key)
        answer = await self.handler(request)
        return kept(request, answer, self.keeping) if isinstance(answer, Response) else answer

    def _check(self, given: QueryParams) -> None:
        """Refuse unknown, repeated, contradictory and malformed parameters: none is silently ignored."""
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
        """Refuse a key for one book on another book, or on a route about all books."""
        if BOOK not in self.query:
            raise Problem(403, "this route is about all books, and this key is for one")
        if not key.sees(request.query_params.get("book", key.book or "")):
            raise Problem(403, f"this key is for the book {key.book} alone")


def routes_of(operations: Iterable[Operation]) -> list[Route]:
    """Return one route per path with all its methods, so that a 405 lists every method allowed."""
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
    """Declare an end of a range: a moment, a day or a month."""
    forms: list[Json] = [{"format": "date-time"}, {"format": "date"}, {"pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"}]
    return Parameter(name, about, {"type": "string", "anyOf": forms}, read_bound)


def whole(name: str, about: str, low: int = 0, high: int = LAST_POSITION) -> Parameter:
    """Declare a whole number between two others."""
    schema = {"type": "integer", "minimum": low, "maximum": high, "format": "int64"}
    return Parameter(name, about, schema, lambda named, text: read_integer(named, text, low, high))


def word(name: str, about: str, *words: str) -> Parameter:
    """Declare a choice among words."""

    def read(named: str, text: str) -> str:
        if text not in words:
            raise Problem(400, f"{named} is one of {', '.join(words)}")
        return text

    return Parameter(name, about, {"type": "string", "enum": list(words)}, read)


def matching(name: str, about: str, pattern: str, looks: str) -> Parameter:
    """Declare text that matches a pattern; ``looks`` describes it in words."""

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
AS_OF: Final = time_of("as_of", "The moment asked about, including everything at that moment. Default: now.")
AT: Final = time_of("at", "The same as as_of.")
KNOWN_AT: Final = time_of("known_at", "Answer only from what had been recorded by then.")
KNOWN_POSITION: Final = whole("known_position", "Answer only from what had been recorded up to this position.")
BUILD: Final = named("build", "Ask this kept build instead of the live one; it knows what it has folded.")
MIN_POSITION: Final = whole("min_position", "Do not answer before this position is folded.")
WAIT: Final = Parameter(
    "wait",
    "How many seconds to wait for min_position.",
    {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
    lambda named, text: read_seconds(named, text, MAX_WAIT_SECONDS),
)
LIMIT: Final = whole("limit", "How many to list at most.", 1, MAX_LIMIT)
CURSOR: Final = matching("cursor", "Where to continue: next_cursor of the previous page.", r"[A-Za-z0-9_=-]+",
                         "the next_cursor of the previous page")  # fmt: skip
WITH_DATA: Final = word("data", "Whether to include the events' data.", "true", "false")
VERIFY: Final = word("verify", "Whether every sealed row is hashed and compared with the digest.", "true", "false")
PRIOR: Final = word("prior_period", "Whether to list later changes of closed months, too.", "true", "false")
DETAIL: Final = word("detail", "Whether to list what the sums are made of.", "true", "false")

READ: Final = (BOOK, AS_OF, AT, KNOWN_AT, KNOWN_POSITION, BUILD, MIN_POSITION, WAIT)
"""What every read of a projection takes."""

LOG_READ: Final = (BOOK, AS_OF, AT, KNOWN_AT, KNOWN_POSITION, MIN_POSITION, WAIT)
"""What every read of the log takes; no ``build``, since builds do not matter there."""

BESIDE_LOG: Final = (BOOK, AS_OF, AT, MIN_POSITION, WAIT)
"""What reads of data beside a book's log take (coverage, observations, conflicts, checklists)."""

_OF_ALL: Final = replace(BOOK, about="Only this book. Default: all books.")
_NOW: Final = "Accepted as on every read, but the answer is always as of now."

NOW: Final = (replace(AS_OF, about=_NOW), replace(AT, about=_NOW))
"""The moment, on routes that only know the present and ignore it."""

OF_ALL: Final = (_OF_ALL, AS_OF, AT)
"""What reads about all books take."""

NOW_OF_ALL: Final = (_OF_ALL, *NOW)
"""The same, on routes that only know the present."""

PAGE: Final = (LIMIT, CURSOR)
"""What every list takes."""
