"""Which book: an option that a slip of the finger must not turn into another book, which would stay for good."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Annotated, Final

import typer

from api.access import book_meant
from api.problems import Problem
from api.settings import Settings
from ledger.books import BOOK, OF_STRIPE
from ledger.errors import MistakeError
from ledger.postgres import Database

_HELP: Final = "Which book; default: what a request without `book` means."


def _reads_like(names: re.Pattern[str]) -> Callable[[str | None], str | None]:
    def check(book: str | None) -> str | None:
        if book is not None and not names.fullmatch(book):
            raise MistakeError("--book must look like self:live or acct_123:test")
        return book

    return check


Book = Annotated[str | None, typer.Option(help=_HELP, callback=_reads_like(BOOK))]
BookToChange = Annotated[str | None, typer.Option(help=_HELP, callback=_reads_like(OF_STRIPE))]
"""What is decided belongs in the book of a Stripe account alone."""


def book_of(settings: Settings, database: Database, book: str | None) -> str:
    """Return the book that is named, else the one that a request without ``book`` means.

    Another than that would get its first event by a slip, and be what every request means from then on.
    """
    return book if book is not None else asyncio.run(default_book(settings, database))


async def default_book(settings: Settings, database: Database) -> str:
    """Return the book that a request without ``book`` means. Raises ``MistakeError`` where that is not clear."""
    connection = await database.as_role("ledger_app").connect()
    try:
        return await book_meant(connection, settings.book_by_default)
    except Problem as problem:
        raise MistakeError(f"--book: {problem.detail}") from problem
    finally:
        await connection.close()
