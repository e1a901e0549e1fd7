"""Reading a request's parameters: what is malformed is answered 400 and named."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem
from ledger.books import BOOK
from ledger.event import IDENTIFIER
from ledger.times import parse_rfc3339

MAX_LIMIT = 500
MAX_WAIT_SECONDS = 10
FORGED_CURSOR = "cursor was not issued by this service"
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


class SlashesInPaths:
    """ASGI middleware: a percent-encoded slash is part of a path's value and does not separate values.

    Servers decode the whole path before routing. Here ``%2F`` becomes NUL, which no value may contain, until
    ``path_value`` turns it back; a NUL in the request becomes U+FFFD, like other bytes that are not text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its path decoded value by value."""
        raw_path = scope.get("raw_path") if scope["type"] == "http" else None
        if raw_path and (b"%2" in raw_path or b"%00" in raw_path):
            text = raw_path.decode("latin-1").replace("%00", "%EF%BF%BD").replace("%2F", "%00").replace("%2f", "%00")
            scope["path"] = unquote(text)  # no copy: whoever is further out sees which route was taken
        await self._app(scope, receive, send)


def path_value(request: Request, name: str) -> str:
    """Return one value of the request's path, decoded."""
    return str(request.path_params[name]).replace("\x00", "/")


def time_parameter(request: Request, *names: str) -> datetime | None:
    """Return the first of ``names`` that is given, as a UTC time."""
    for name in names:
        text = request.query_params.get(name)
        if text is not None:
            return read_time(name, text)
    return None


def read_time(name: str, text: str) -> datetime:
    """Read an RFC 3339 time in UTC."""
    try:
        # A plus sign that nobody percent-encoded has become a space; a space before the hours is as good as a T.
        return parse_rfc3339(text[:11] + text[11:].replace(" ", "+"))
    except (ValueError, OverflowError) as error:
        raise Problem(400, f"{name} is not an RFC 3339 time: {error}") from error


def bound_parameter(request: Request, name: str) -> datetime | None:
    """Return where a range begins or ends, as a UTC time: a month means its first moment."""
    text = request.query_params.get(name)
    return None if text is None else read_bound(name, text)


def read_bound(name: str, text: str) -> datetime:
    """Read an RFC 3339 time, a day or a month such as 2026-03."""
    return read_time(name, f"{text}-01" if _MONTH.fullmatch(text) else text)


def integer_parameter(request: Request, name: str, default: int, low: int, high: int) -> int:
    """Return a whole number between ``low`` and ``high``."""
    text = request.query_params.get(name)
    return default if text is None else read_integer(name, text, low, high)


def read_integer(name: str, text: str, low: int, high: int) -> int:
    """Read a whole number between ``low`` and ``high``."""
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise Problem(400, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def seconds_parameter(request: Request, name: str, default: float, high: float) -> float:
    """Return a number of seconds between 0 and ``high``."""
    text = request.query_params.get(name)
    return default if text is None else read_seconds(name, text, high)


def read_seconds(name: str, text: str, high: float) -> float:
    """Read a number of seconds between 0 and ``high``."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or float(text) > high:
        raise Problem(400, f"{name} must be a number of seconds from 0 to {high:g}")
    return float(text)


def identifier_parameter(request: Request, name: str) -> str | None:
    """Return an id, a type or the like: printable ASCII without spaces."""
    text = request.query_params.get(name)
    return None if text is None else read_identifier(name, text)


def read_identifier(name: str, text: str) -> str:
    """Read an id, a type or the like."""
    if not IDENTIFIER.fullmatch(text):
        raise Problem(400, f"{name} must be printable ASCII without spaces")
    return text


def book_parameter(request: Request) -> str | None:
    """Return the book that is asked for by name, or None."""
    text = request.query_params.get("book")
    return None if text is None else read_book("book", text)


def read_book(name: str, text: str) -> str:
    """Read a book's name."""
    if not BOOK.fullmatch(text):
        raise Problem(400, f"{name} must look like self:live or acct_123:test")
    return text
