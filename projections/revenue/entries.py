"""Entries: what one fact posts, in one currency, summing to zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class UnbalancedError(Exception):
    """An entry does not sum to zero: a mistake of ours, which parks the subject instead of reaching the books."""


class Posting(NamedTuple):
    """An amount on an account, debit positive; ``line`` is the invoice line it is about."""

    account: str
    amount: int
    line: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one fact posts. ``key`` is the fact's own name, ``invoice`` the one it is about."""

    key: str
    at: int
    kind: str
    currency: str
    postings: tuple[Posting, ...]
    invoice: str | None = None
    because: tuple[str, ...] = ()


class Problem(NamedTuple):
    """Something that does not add up or is not known yet, with its amount: shown, never guessed away."""

    kind: str
    key: str
    currency: str
    amount: int
    at: int
    because: tuple[str, ...] = ()


@dataclass(slots=True)
class Journal:
    """The entries of one subject as they are made, and what did not add up."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def post(
        self,
        key: str,
        at: int,
        kind: str,
        currency: str,
        postings: Iterable[Posting],
        because: Sequence[str] = (),
        invoice: str | None = None,
    ) -> tuple[Posting, ...]:
        """Post an entry, each account and line once; one that comes to nothing is not posted."""
        merged: dict[tuple[str, str | None], int] = {}
        for account, amount, line in postings:
            merged[account, line] = merged.get((account, line), 0) + amount
        kept = tuple(Posting(account, amount, line) for (account, line), amount in merged.items() if amount)
        if sum(posting.amount for posting in kept):
            raise UnbalancedError(f"{key} of {kind} does not sum to zero: {kept}")
        if kept:
            self.entries.append(Entry(key, at, kind, currency, kept, invoice, tuple(because)))
        return kept


def mirrored(postings: Iterable[Posting]) -> list[Posting]:
    """Return the same postings on the other side."""
    return [posting._replace(amount=-posting.amount) for posting in postings]
