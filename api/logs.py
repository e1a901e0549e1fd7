"""Logging: one line per occurrence on standard error, for people or (``json``) for machines, without personal data.

An error is logged as its type and stack, never with its message: messages of libraries quote values, which may be a
customer's. Values that look like an e-mail address, a card number, a key, a secret or a signature are blotted out of
every line, whoever writes it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from types import TracebackType
from typing import Any, Final

import asyncpg
import orjson
import stamina
import structlog

from api.settings import Settings
from ledger.errors import LedgerError

Line = MutableMapping[str, Any]

BLOT: Final = "[…]"

_SHAPES: Final = (
    ("@", re.compile(r"[^\s@\"'<>(]{1,64}@[^\s@\"'<>)]{1,250}")),  # an address of mail, a login of a database
    ("_", re.compile(r"(?:lk|whsec|[spr]k_live|[spr]k_test)_[A-Za-z0-9+/=_-]{6,}")),  # a key or a secret
    ("=", re.compile(r"v[01]=[0-9a-f]{64}")),  # a signature of Stripe's
)
"""What must not be logged: a sign that it may be there, which is looked for first, and how it looks."""

_CARD: Final = re.compile(r"(?<![0-9A-Za-z.])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])")
_DIGITS: Final = re.compile(r"[0-9 -]{13}")
_CHARACTERS_MAX: Final = 2_000
_FRAMES_MAX: Final = 12


def configure_logging(settings: Settings) -> None:
    """Set up logging for this process: our own lines, and those of the libraries that use Python's."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    first: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_personal_data,
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_json)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*first, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    _take_over(max(level, logging.WARNING), first, last)
    stamina.instrumentation.set_on_retry_hooks([_retrying])
    sys.excepthook = _uncaught


def _take_over(level: int, first: Sequence[structlog.typing.Processor], last: structlog.typing.Processor) -> None:
    """Log libraries' messages in the same form; of a message of several lines the first, as the rest quotes objects."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, *first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)


def _uncaught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    """Log the exception that ended the process in the same form."""
    structlog.get_logger().critical("process_failed", exc_info=error)


def _first_line(_: Any, __: str, line: Line) -> Line:
    line["event"] = str(line["event"]).strip().partition("\n")[0]
    return line


def _retrying(details: stamina.instrumentation.RetryDetails) -> None:
    """Log that something is retried, without its arguments."""
    structlog.get_logger().info("retrying", what=details.name, number=details.retry_num, error=details.caused_by)


def without_personal_data(_: Any, __: str, line: Line) -> Line:
    """Write exceptions without their messages, and blot out whatever looks personal or secret."""
    if (failed := line.pop("exc_info", None)) is not None:
        error = failed if isinstance(failed, BaseException) else _current(failed)
        if error is not None:
            line["error"] = error
            line["places"] = places(error)
    for name, value in line.items():
        if isinstance(value, BaseException):
            line[name] = _blotted(describe(value))
        elif isinstance(value, str):
            line[name] = _blotted(value)
        elif name == "places":
            line[name] = [_blotted(place) for place in value]
        elif value is not None and not isinstance(value, (bool, int, float)):
            line[name] = _blotted(_json(value))
    return line


def _current(failed: Any) -> BaseException | None:
    found = failed if isinstance(failed, tuple) else sys.exc_info()
    return found[1] if isinstance(found[1], BaseException) else None


def describe(error: BaseException) -> str:
    """Describe an error without the values involved: our own message, else the type of error and its code."""
    if isinstance(error, LedgerError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} ({error.sqlstate})"
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


def places(error: BaseException) -> list[str]:
    """Return where an error passed, innermost last: files, lines and functions, and what it came of."""
    found = _frames(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found if cause is None else [*_frames(cause.__traceback__), f"then, of {describe(cause)}", *found]


def _frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_FRAMES_MAX:]
    return [f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames]


def is_personal(text: str) -> bool:
    """Return whether a text contains what is kept out of the log."""
    return _blotted(text) != text


def _blotted(text: str) -> str:
    text = text[:_CHARACTERS_MAX]
    for sign, shape in _SHAPES:
        if sign in text:
            text = shape.sub(BLOT, text)
    return _CARD.sub(BLOT, text) if _DIGITS.search(text) else text


def _json(content: Any, **_: Any) -> str:
    return orjson.dumps(content, default=lambda value: type(value).__name__, option=orjson.OPT_NON_STR_KEYS).decode()
