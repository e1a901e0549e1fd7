"""What a route takes and answers, declared once: requests are checked by it, ``/openapi.json`` is written from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from api.access import require
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

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[ASGIApp]]

LAST_POSITION: Final = 2**63 - 1


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
    Schema of the request's, ``body_type`` its media type. ``refuses`` are the statuses of its problems beside 400.
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

    @property
    def path_names(self) -> list[str]:
        """The values that stand in the path."""
        return re.findall(r"{(\w+)}", self.path)

    def route(self) -> Route:
        """Return the route that checks what is declared and calls the handler."""
        return Route(self.path, self._checked if self.query else self.handler, methods=[self.method])

    async def _checked(self, request: Request) -> ASGIApp:
        if request.query_params:
            if self.scope is not None:
                require(request, self.scope)  # a stranger is not told what is wrong with the question
            asked = request.query_params
            names = asked.keys()
            for parameter in self.query:
                if parameter.name in names:
                    parameter.read(parameter.name, asked[parameter.name])
        return await self.handler(request)


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


def matching(name: str, about: str, pattern: str) -> Parameter:
    """Declare a text of some form."""

    def read(named: str, text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Problem(400, f"{named} does not look like {pattern}")
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
BUILD: Final = named("build", "Ask this kept build instead of the live one.")
MIN_POSITION: Final = whole("min_position", "Do not answer before this position is folded.")
WAIT: Final = Parameter(
    "wait",
    "How many seconds to wait for min_position.",
    {"type": "number", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
    lambda named, text: read_seconds(named, text, MAX_WAIT_SECONDS),
)
LIMIT: Final = whole("limit", "How many to list.", 1, MAX_LIMIT)
CURSOR: Final = matching("cursor", "Where to go on: next_cursor of the page before.", r"[A-Za-z0-9_=-]+")
DETAIL: Final = word("detail", "Whether to list what the sums are made of.", "true", "false")

READ: Final = (BOOK, AS_OF, AT, KNOWN_AT, KNOWN_POSITION, BUILD, MIN_POSITION, WAIT)
"""What every read of a projection takes."""

PAGE: Final = (LIMIT, CURSOR)
"""What every list takes."""
