"""Which book: an option that a slip of the finger must not turn into another book, which would stay for good."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final

import typer

from ledger.books import BOOK, OF_STRIPE
from ledger.errors import MistakeError

_HELP: Final = "Which book; default: the default book."


def _reads_like(names: re.Pattern[str]) -> Callable[[str | None], str | None]:
    def check(book: str | None) -> str | None:
        if book is not None and not names.fullmatch(book):
            raise MistakeError("--book reads like self:live or acct_123:test")
        return book

    return check


Book = Annotated[str | None, typer.Option(help=_HELP, callback=_reads_like(BOOK))]
BookToChange = Annotated[str | None, typer.Option(help=_HELP, callback=_reads_like(OF_STRIPE))]
"""What is decided belongs in the book of a Stripe account alone."""
