"""Lists of Stripe's API: every page of one, and the events of a span of time, oldest first.

Stripe lists events newest first, a hundred at a time. A past span of time is read whole and reversed; one with too many
events is read in narrower pieces, so that memory is bounded and the log grows in order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.outward.access import Reply, StripeAccess
from api.outward.refused import StripeRefusedError
from ledger.cut import elements
from ledger.errors import LedgerError
from ledger.event import Json, identifier

PAGE: Final = 100
"""As many as Stripe gives at once."""

PAGES_AT_ONCE: Final = 10

FORBIDDEN: Final = frozenset({400, 401, 403, 404})
"""Refusals that are an answer; after any other Stripe is away."""


class EndlessListError(LedgerError):
    """A list says that there is more after a page that ends where it began."""


class NoListError(LedgerError):
    """What answers for Stripe lists something that Stripe would not: nothing can be concluded from it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} answers something that Stripe would not")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: the reply, its elements parsed, and each one's exact bytes."""

    reply: Reply
    elements: list[Json]
    raw: list[bytes]


async def read_pages(
    access: StripeAccess, path: str, params: Mapping[str, Any] | None = None, *, account: str | None = None
) -> AsyncIterator[Page]:
    """Give every page of a list, in the order Stripe has it."""
    asked = {"limit": PAGE, **(params or {})}
    while True:
        page = _page(await access.get(path, asked, account=account))
        yield page
        if page.reply.content.get("has_more") is not True:
            return
        last = identifier(page.elements[-1]) if page.elements else None
        if last is None or last == asked.get("starting_after"):
            raise EndlessListError(f"{path} says that there is more, and not where")
        asked["starting_after"] = last


async def read_events(
    access: StripeAccess, since: int, until: int, *, account: str | None = None
) -> list[tuple[int, bytes]] | None:
    """Return the events created from ``since`` until before ``until``, oldest first, with their time.

    None where there are more than are read at once and the span can be narrowed.
    """
    found: list[tuple[int, bytes]] = []
    params = {"created": {"gte": since, "lt": until}}
    pages = 0
    async for page in read_pages(access, "/v1/events", params, account=account):
        found += [(_created(one), raw) for one, raw in zip(page.elements, page.raw, strict=True)]
        pages += 1
        if pages >= PAGES_AT_ONCE and page.reply.content.get("has_more") is True and until - since > 1:
            return None
    found.reverse()
    return sorted(found, key=lambda one: one[0])


async def read_accounts(access: StripeAccess, known: Iterable[str] = ()) -> list[str | None]:
    """Return the accounts a key may ask for: its own (None), and those connected to it.

    Where it may not list these, they are those that are ``known``: whether it may ask for them is for each to say.
    """
    accounts: list[str | None] = [None]
    try:
        async for page in read_pages(access, "/v1/accounts"):
            accounts += [one for one in map(identifier, page.elements) if one is not None]
    except StripeRefusedError as error:
        if error.status not in FORBIDDEN:
            raise  # it is away; that it is no platform, or may not list accounts, is an answer
        accounts = list(dict.fromkeys([*accounts, *known]))
    return accounts


def _page(reply: Reply) -> Page:
    data = reply.content.get("data")
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise NoListError(reply.answer.path)
    parsed: list[Json] = data
    raw = elements(reply.answer.body, "data")
    if len(parsed) != len(raw):
        raise NoListError(reply.answer.path)
    return Page(reply, parsed, raw)


def _created(event: Json) -> int:
    created = event.get("created")
    if not isinstance(created, int):
        raise NoListError("/v1/events")
    return created
