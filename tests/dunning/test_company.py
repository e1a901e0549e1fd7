"""Every case of the simulated company is what the simulator says it is, at any moment and in every shape; and so is
every sum of them, to the cent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ledger.simulator.company import MIXED, Arguments, Company
from ledger.simulator.truth_cases import CLOSED
from ledger.simulator.versions import VERSIONS
from projections.dunning.summary import LEFT_OUT, Wanted, summarise
from tests.dunning.companies import Book, as_truth, by_case, folded, truth_of
from tests.keeping import kept

EARLIER = 50


def moments(arguments: Arguments, count: int) -> list[int]:
    """Return instants over a company's life, and its end."""
    return [*range(arguments.start, arguments.end, (arguments.end - arguments.start) // count), arguments.end]


@pytest.fixture(scope="module")
def default() -> Iterator[tuple[Company, dict[str, Book]]]:
    """The default company, folded."""
    with kept(lambda: folded(Arguments())) as made:
        yield made


def test_every_case_is_the_truth_at_every_moment(default: tuple[Company, dict[str, Book]]) -> None:
    company, books = default
    compared = 0
    for at in moments(company.arguments, EARLIER):
        for book, truth in company.truth.items():
            found = books[book].at(at)
            assert by_case(map(as_truth, found)) == truth_of(truth.dunning(at), found)
            compared += len(found)
    assert compared > 5_000


def test_every_sum_is_the_sum_of_the_cases(default: tuple[Company, dict[str, Book]]) -> None:
    company, books = default
    for at in moments(company.arguments, EARLIER):
        for name, truth in company.truth.items():
            book = books[name]
            when = datetime.fromtimestamp(at, UTC)
            sums = summarise(book.at(at), book.worth_at(at), book.churns, Wanted(), when)
            cases = [case for case in truth.dunning(at) if case["category"] not in LEFT_OUT]
            for currency, own in sums.items():
                some = [case for case in cases if case["currency"] == currency]
                opened = [case for case in some if case["state"] not in CLOSED]
                back = [case for case in some if case["state"] == "recovered"]
                assert (own.opened.count, own.opened.volume) == (len(some), sum(case["volume"] for case in some))
                assert (own.open.count, own.open.volume) == (len(opened), sum(case["open_amount"] for case in opened))
                assert own.recovered.count == len(back)
                assert own.lost.count == len([case for case in some if _is_lost(case)])
                assert sum(one.group.opened.volume for one in own.cohorts) == own.opened.volume
                assert sum(one.group.recovered.volume for one in own.cohorts) == own.recovered.volume
                assert sum(one.opened.volume for one in own.by_class.values()) == own.opened.volume
                assert sum(one.count for one in own.by_recovery.values()) == own.recovered.count
                assert own.recovered.volume + own.lost.volume <= own.opened.volume
            unsure = {row.currency for row in book.worth_at(at) if row.incomplete}
            for currency, own in sums.items():
                carried = [one for one in book.at(at) if one.case.currency == currency]
                assert own.at_risk_mrr == sum(one.at_risk_mrr for one in carried)
                if currency not in unsure:
                    truly = (truth.mrr(at).get(currency, 0), truth.at_risk(at).get(currency, 0))
                    assert (own.mrr, own.at_risk_mrr) == truly


def _is_lost(case: dict[str, object]) -> bool:
    return case["state"] in CLOSED - {"recovered"} or (case["state"] not in CLOSED and case["outcome"] is not None)


def test_why_a_payment_failed_is_known_of_every_case(default: tuple[Company, dict[str, Book]]) -> None:
    company, books = default
    for book, truth in company.truth.items():
        known = {one.case.case_id: one.case for one in books[book].at(company.arguments.end)}
        for case in truth.dunning(company.arguments.end):
            if case["decline_class"] is not None:
                kind = known[case["case"]].failure_class
                assert ("hard" if kind == "hard" else "soft") == case["decline_class"]


@pytest.mark.parametrize("version", [*(one for one in VERSIONS if one != Arguments().api_version), MIXED])
def test_every_shape_tells_the_same(version: str) -> None:
    company, books = folded(Arguments(customers=40, months=15, seed=4, api_version=version))
    for at in moments(company.arguments, 8):
        for book, truth in company.truth.items():
            found = books[book].at(at)
            assert by_case(map(as_truth, found)) == truth_of(truth.dunning(at), found)
