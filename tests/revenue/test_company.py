"""A simulated company's books against its truth, which was kept without reading an event: exactly, month by month."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import orjson
import pytest

from ledger.books import book_of
from ledger.event import parse_envelope, stream_of
from ledger.simulator.company import Arguments, Company
from ledger.simulator.truth import Truth
from projections.causal import in_causal_order
from projections.contract import Subject
from projections.facts import Fact, fact_of
from projections.links import Link, links, merged, root_of
from projections.revenue import gather
from projections.revenue.accounts import CLASSES
from projections.revenue.facts import Facts
from projections.revenue.journal import Books, books_of
from projections.revenue.policy import POLICIES
from projections.revenue.schedule import month_start
from projections.revenue.shown import natural, sums_of

VERSIONS = ("2020-08-27", "2024-06-20", "2025-03-31.basil", "2026-10-28.endive")


@cache
def company(version: str, seed: int = 5) -> tuple[tuple[bytes, ...], dict[str, Truth]]:
    made = Company(Arguments(customers=25, months=14, seed=seed, api_version=version))
    return tuple(orjson.dumps(event) for event in made.events()), made.truth


def facts_by_subject(bodies: tuple[bytes, ...]) -> dict[Subject, list[Fact]]:
    """Return each subject's facts, joined by the links that all events make."""
    facts: list[tuple[str, str, Fact]] = []
    standing: dict[str, Link] = {}
    for position, body in enumerate(bodies, 1):
        envelope = parse_envelope(body)
        book = book_of(envelope.account or "self", livemode=envelope.livemode)
        fact = fact_of(envelope.event_id, envelope.type, envelope.created, position, body)
        facts.append((book, stream_of(book, envelope.parsed), fact))
        standing = merged(standing, links(book, fact))
    found: dict[Subject, list[Fact]] = {}
    for book, stream, fact in facts:
        if fact.type in gather.STEPS:
            found.setdefault(Subject(book, root_of(stream, standing)), []).append(fact)
    return found


def books_under(subject: Subject, facts: list[Fact], policy: str = "second") -> Books:
    noted = Facts(subject)
    for fact in in_causal_order(facts):
        gather.STEPS[fact.type](noted, fact)
    return books_of(noted, POLICIES[policy])


def books_by_book(bodies: tuple[bytes, ...], policy: str = "second") -> dict[str, list[Books]]:
    found: dict[str, list[Books]] = {}
    for subject, facts in facts_by_subject(bodies).items():
        found.setdefault(subject.book, []).append(books_under(subject, facts, policy))
    return found


def months(bodies: tuple[bytes, ...]) -> list[int]:
    times = [orjson.loads(body)["created"] for body in bodies]
    found = [month_start(min(times))]
    while found[-1] < max(times):
        found.append(month_start(found[-1], 1))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_trial_balance_and_recognition_are_the_truth(version: str) -> None:
    bodies, truths = company(version)
    ours = books_by_book(bodies)
    compared = 0
    for book, truth in truths.items():
        for month in months(bodies):
            end = month_start(month, 1)
            wanted = {
                currency: amounts
                for currency, amounts in truth.books.trial_balance(end, whole=False).items()
                if amounts
            }
            assert balances(ours.get(book, []), end - 1) == wanted, (book, month)
            sums = sums_of(ours.get(book, []), month, end - 1)
            for currency, one in truth.books.recognition(month, end).items():
                assert flows(natural(sums.get(currency, {})), one) == {name: one[name] for name in FLOWS}, (book, month)
                compared += 1
    assert compared > 40


FLOWS = ("billed", "recognized", "net_revenue", "released", "reinstated", "contra", "bad_debt", "recoverables")


def flows(amounts: dict[str, int], like: dict[str, Any]) -> dict[str, Any]:
    contra = {name: amounts[name] for name in like["contra"]}
    released = {name: amounts[f"released_{name}"] for name in like["released"]}
    given = {name: amounts.get(name) for name in FLOWS}
    return given | {"contra": contra, "released": released, "net_revenue": amounts["recognized"] - sum(contra.values())}


def balances(made: list[Books], at: int) -> dict[str, dict[str, int]]:
    found = {
        currency: {name: amount for name, amount in sorted(amounts.items()) if amount and name in CLASSES}
        for currency, amounts in sums_of(made, 0, at).items()
    }
    return {currency: amounts for currency, amounts in sorted(found.items()) if amounts}


@pytest.mark.parametrize("version", VERSIONS)
def test_in_the_end_nothing_waits(version: str) -> None:
    """Service ends, links arrive: deferred, unbilled and clearing come to 0, and receivables are what is open."""
    bodies, _ = company(version)
    for made in books_by_book(bodies).values():
        for currency, amounts in sums_of(made, 0, 2**33).items():
            for account in ("refunds_clearing", "fx_clearing", "deferred_revenue", "unbilled_receivable"):
                assert amounts.get(account, 0) == 0, (currency, account)
            # What a bank has not sent yet has not paid its invoice yet either.
            assert amounts.get("payments_clearing", 0) + amounts.get("pending_cash", 0) == 0
            owed = sum(
                one.amount_remaining
                for books in made
                for one in books.facts.invoices.values()
                if one.currency == currency and one.status == "open"
            )
            assert amounts.get("accounts_receivable", 0) == owed


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_roll_forward_holds_in_every_month_and_over_all_time(policy: str) -> None:
    bodies, _ = company("2026-10-28.endive")
    spans = [(month, month_start(month, 1) - 1) for month in months(bodies)] + [(0, 2**33)]
    for made in books_by_book(bodies, policy).values():
        for since, until in spans:
            for currency, sums in sums_of(made, since, until).items():
                one = natural(sums)
                released = sum(one[name] for name in one if name.startswith("released_"))
                moved = one["billed"] - one["recognized"] - released + one["reinstated"]
                assert one["deferred"] - one["unbilled"] == moved, (since, currency)


def test_any_order_gives_the_same_journal() -> None:
    bodies, _ = company("2026-10-28.endive")
    dice = random.Random(2)
    for subject, facts in facts_by_subject(bodies).items():
        first = books_under(subject, facts).journal
        for _ in range(2):
            some = dice.sample(facts, len(facts)) + dice.choices(facts, k=min(3, len(facts)))
            assert books_under(subject, some).journal == first
