"""Very many examples of the promise that any order of arrival gives the same rows."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

import orjson

from bench.table import Row, rate
from ledger.books import book_of
from ledger.event import parse_envelope, stream_of
from ledger.simulator.company import Arguments, Company
from projections.contract import Subject
from projections.entitlements.tables import entitlements
from projections.facts import Fact, fact_of
from projections.folding import rows_of

PROJECTION = entitlements("org_id")


def orders_row(examples: int) -> Row:
    """Fold subjects of simulated companies in random orders, with duplicates; raise where rows differ."""
    began, dice = time.perf_counter(), random.Random(11)
    lives = [life for seed in range(20) for life in _lives(seed)]
    expected = [repr(_folded(subject, facts)) for subject, facts in lives]
    for _ in range(examples):
        chosen = dice.randrange(len(lives))
        subject, facts = lives[chosen]
        arrived = [*facts, *dice.choices(facts, k=dice.randrange(4))]
        dice.shuffle(arrived)
        if repr(_folded(subject, arrived)) != expected[chosen]:
            raise AssertionError(f"{subject} comes out differently in another order")
    seconds = time.perf_counter() - began
    return Row(f"{examples:,} random orders", rate(examples, seconds), "0 that differ", 0.0, "≤ 0")


def _folded(subject: Subject, facts: list[Fact]) -> object:
    return {table: sorted(rows, key=repr) for table, rows in rows_of(PROJECTION, subject, facts).items()}


def _lives(seed: int) -> list[tuple[Subject, list[Fact]]]:
    found: dict[Subject, list[Fact]] = {}
    company = Company(Arguments(customers=10, months=18, seed=seed, api_version="mixed"), keep_truth=False)
    for position, event in enumerate(company.events(), 1):
        if event["type"] in PROJECTION.types:
            body = orjson.dumps(event)
            envelope = parse_envelope(body)
            book = book_of(envelope.account or "self", livemode=envelope.livemode)
            created = datetime.fromtimestamp(event["created"], UTC)
            fact = fact_of(event["id"], event["type"], created, position, body)
            found.setdefault(Subject(book, stream_of(book, event)), []).append(fact)
    return [(subject, facts) for subject, facts in found.items() if len(facts) > 5]
