"""Templates, what they can say about money and time, and the headers that every page of the console has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

import jinja2
from starlette.responses import HTMLResponse, Response

from api.console.assets import address
from ledger.money import whole
from ledger.times import parse_rfc3339, rfc3339

_NOTHING: Final = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""The digest of the empty style sheet, into which Plotly's script puts its rules one by one."""

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    f"style-src 'self' {_NOTHING}; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}


def respond(template: str, context: Mapping[str, object], status: int = 200) -> Response:
    """Render a template into a response."""
    return HTMLResponse(TEMPLATES.get_template(template).render(context), status, dict(HEADERS))


def parameter(value: object) -> str:
    """Write a value as a parameter of an address."""
    return rfc3339(value) if isinstance(value, datetime) else str(value)


def money(amount: int | None, currency: str) -> str:
    """Write an amount of a currency's smallest unit in whole units: 123456 usd is 1,234.56 USD."""
    return "" if amount is None else f"{whole(amount, currency):,} {currency.upper()}"


def amount(value: int | None, currency: str) -> str:
    """Write an amount without its currency, for a column that names it."""
    return "" if value is None else f"{whole(value, currency):,}"


def count(value: int | None) -> str:
    """Write a whole number with its thousands apart."""
    return "" if value is None else f"{value:,}"


def moment(value: datetime | str | None) -> str:
    """Write a time for people: UTC, to the second."""
    if value is None or value == "":
        return ""
    time = parse_rfc3339(value) if isinstance(value, str) else value
    return time.strftime("%Y-%m-%d %H:%M:%S").removesuffix(" 00:00:00")


def exact(value: datetime | str | None) -> str:
    """Write a time for machines, as RFC 3339."""
    return "" if value is None else rfc3339(parse_rfc3339(value) if isinstance(value, str) else value)


def month(value: datetime) -> str:
    """Write a month: 2026-03."""
    return f"{value:%Y-%m}"


def month_before(value: datetime) -> str:
    """Write the month that ends where ``value`` is."""
    return month(value - timedelta(days=1))


def words(value: object) -> str:
    """Write a name of the ledger's as words: past_due is past due."""
    return "" if value is None else str(value).replace("_", " ")


def segment(value: str) -> str:
    """Write a value so that it is one step of an address's path, whatever stands in it."""
    return quote(value, safe="")


_GOOD: Final = ("active", "complete", "live", "paid", "recovered", "trialing")
_WARN: Final = (
    "action_required", "incomplete", "needs_payment_method", "open", "overdue", "past_due", "paused", "retrying",
)  # fmt: skip
_BAD: Final = (
    "blocked",
    "canceled",
    "exhausted",
    "failed",
    "incomplete_expired",
    "uncollectible",
    "unpaid",
    "written_off",
)

TONES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_GOOD, "good"), **dict.fromkeys(_WARN, "warn"), **dict.fromkeys(_BAD, "bad")
}  # fmt: skip
"""How a state of a subscription, an invoice, a case or a build is shown; plain where it is neither."""


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (money, amount, count, moment, exact, words, month, month_before, segment, parameter)
    made.filters.update({one.__name__: one for one in filters})
    made.globals |= {"static": address, "tones": TONES}
    return made


TEMPLATES: Final = _environment()
