"""Which book: an option that a slip of the finger must not turn into another book, which would stay for good."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ledger.books import BOOK, OF_STRIPE
from ledger.errors import MistakeError

_HELP: Final = "Which book; default: the default book."


def named(book: str | None) -> str | None:
    """Return a book's name that reads like one."""
    if book is not None and not BOOK.fullmatch(book):
        raise MistakeError("--book reads like self:live or acct_123:test")
    return book


def of_stripe(book: str | None) -> str | None:
    """Return the name of a Stripe account's book: what is decided belongs in no other."""
    if book is not None and not OF_STRIPE.fullmatch(book):
        raise MistakeError("--book reads like self:live or acct_123:test")
    return book


Book = Annotated[str | None, typer.Option(help=_HELP, callback=named)]
BookToChange = Annotated[str | None, typer.Option(help=_HELP, callback=of_stripe)]
