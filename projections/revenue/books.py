"""The books part: natural facts into documents and the journal, as one fold of the revenue projection."""

from __future__ import annotations

from typing import Final, Protocol

from ledger.catalogs import PUBLISHED
from projections.contract import Rows, Terms
from projections.facts import Fact
from projections.mrr.portfolio import spans
from projections.revenue import documents, gather, ledgers
from projections.revenue.counting import Falls, counting_of
from projections.revenue.facts import Facts
from projections.revenue.journal import books_of
from projections.revenue.owing import owing_on, with_owing
from projections.revenue.part import Part
from projections.revenue.policy import published
from projections.revenue.prints import PRINTS, print_rows
from projections.revenue.recognition import earnings
from projections.revenue.recurring import Recurring
from projections.revenue.sums import daily, monthly, sum_rows


def step(facts: Facts, fact: Fact, terms: Terms) -> None:
    """Let a subject see its next event. What policies were published does not change while a subject is folded."""
    if facts.rulings is None:
        facts.rulings = published(terms)
    if (note := gather.STEPS.get(fact.type)) is not None:
        note(facts, fact)


class Whole(Protocol):
    """The state of all parts, as far as rows of the books depend on it."""

    @property
    def books(self) -> Facts:
        """This part's."""

    @property
    def recurring(self) -> Recurring:
        """What subscriptions were worth, by which the tie-out sorts what was earned."""


def rows(state: Whole) -> Rows:
    """Return what a subject's facts come to, under the policies that were published."""
    facts = state.books
    made = books_of(facts)
    counting = counting_of(facts, spans(state.recurring.portfolio))
    found = list(earnings(made.bills))
    falls: Falls = {}
    days = daily(made.journal.entries, counting, falls)
    months = monthly(days, found, counting, falls)
    return {
        "invoice": with_owing(documents.invoice_rows(facts), owing_on(made.journal.entries)),
        "invoice_line": list(documents.line_rows(facts)),
        "subscription": list(documents.subscription_rows(facts)),
        "journal_entry": ledgers.entry_rows(facts, made.journal.entries),
        "earning_span": ledgers.span_rows(facts, found),
        "revenue_sum": sum_rows(facts.subject.stream_id, facts.subject.book, days, months, falls),
        "revenue_problem": ledgers.problem_rows(facts, made.journal.problems),
        "journal_print": print_rows(facts.subject.stream_id, facts.subject.book, made.journal.entries, found),
    }


BOOKS: Final = Part(
    name="books",
    types=frozenset(gather.STEPS),
    tables=(
        documents.INVOICES,
        documents.LINES,
        documents.SUBSCRIPTIONS,
        ledgers.ENTRIES,
        ledgers.SPANS,
        ledgers.SUMS,
        ledgers.PROBLEMS,
        PRINTS,
    ),
    begin=Facts,
    step=step,
    rows=rows,
    references=frozenset({PUBLISHED}),
    views={
        "invoices": documents.INVOICES_VIEW,
        "subscriptions": documents.SUBSCRIPTIONS_VIEW,
        "journal_lines": ledgers.JOURNAL_LINES,
    },
)
