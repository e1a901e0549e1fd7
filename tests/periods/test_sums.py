"""What is kept of a seal beside its rows is what they come to, however they are cut, told and sealed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.builds import enter_build
from projections.contract import Subject
from projections.facts import Fact
from projections.periods import fold
from projections.periods.decisions import SEALED, chunk_stream
from projections.periods.kept import ROWS
from projections.revenue.prints import MODULUS
from projections.revenue.sums import COLUMNS, flow_of
from projections.terms import KnownTerms
from tests.mrr.notation import subscription
from tests.periods.test_close import Book, book, finalize
from tests.periods.test_reported import STEPS, Company, Json, Seal, Step, chunks_of

__all__ = ["book"]

BOOK = "self:live"
KEPT = ("sealed_total", "sealed_print", *ROWS)


class Build:
    """The chunks that were told, each a subject of its own."""

    def __init__(self) -> None:
        self.chunks: dict[str, fold.State] = {}

    def tell(self, content: Json) -> None:
        stream = f"{BOOK}/{chunk_stream(content['seal'], content['number'])}"
        state = self.chunks.setdefault(stream, fold.State(Subject(BOOK, stream)))
        fold.step(state, Fact(stream, SEALED, datetime(2026, 4, 1, tzinfo=UTC), 1, content, {}, content), KnownTerms())

    def of(self, seals: Iterable[Seal]) -> list[fold.State]:
        digests = {seal.digest for seal in seals}
        return [state for key, state in self.chunks.items() if key.split(":")[2] in digests]


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 6), st.randoms(use_true_random=False))
def test_what_chunks_keep_is_what_their_rows_come_to(steps: list[Step], size: int, random: Random) -> None:
    company, build = Company(), Build()
    contents: list[Json] = []
    for step in steps:
        company.take(step)
        if step[0] == "close":
            contents += chunks_of(company.seals[-1].lines, company.seals[-1].movements, size)
    contents += contents[::2]
    random.shuffle(contents)
    for content in contents:
        build.tell(content)
    for count in range(len(company.seals) + 1):
        check(company.seals[:count], build.of(company.seals[:count]))


def check(seals: list[Seal], kept: list[fold.State]) -> None:
    amounts: Counter[tuple[str, ...]] = Counter()
    owed: Counter[tuple[str | None, ...]] = Counter()
    worth: Counter[str] = Counter()
    printed: Counter[str] = Counter()
    days: Counter[tuple[str, str]] = Counter()
    for one in (line for seal in seals for line in seal.lines):
        amounts["lines", one.currency] += 1
        amounts[one.account, one.currency] += one.amount
        if (flow := flow_of(one.of, one.account, one.amount)) is not None:
            amounts[flow[0], one.currency] += flow[1]
        owed[one.owner, one.currency, one.invoice] += one.amount * (one.account == "accounts_receivable")
    moved = [one for seal in seals for one in seal.movements]
    for movement in moved:
        worth[movement.owner] += movement.after - movement.before
        days[movement.kind, f"{movement.at:%d}"] += abs(movement.after - movement.before)
    for state in kept:
        for _, _, _, currency, lines, *columns in fold.rows(state)["sealed_total"]:
            amounts["lines", currency] -= lines
            amounts.subtract({(name, currency): of or 0 for name, of in zip(COLUMNS, columns, strict=True)})
        for row in state.prints:
            printed.update(dict(zip(row.owners, row.prints, strict=True)))
        for debt in state.owed:
            owed[debt.owner, debt.currency, debt.invoice] -= debt.amount
    assert not any(amounts.values())
    assert not any(owed.values())
    whole = fold.prints(line for seal in seals for line in seal.lines)
    assert {owner: one % MODULUS for owner, one in printed.items()} == whole
    found = [row for state in kept for row in state.worth]
    assert {row.policy for row in found} <= {"stripe-2026"}
    assert sum(row.movements for row in found) == len(moved)
    assert sum(row.amount for row in found) == sum(worth.values())
    assert sum(row.customers for row in found) == sum(amount > 0 for amount in worth.values())
    for moves in (row for state in kept for row in state.moved):
        assert moves.amount == sum(moves.days)
        days.subtract({(moves.kind, f"{day:02}"): amount for day, amount in enumerate(moves.days, 1)})
    assert not any(days.values())
    for last in (row for state in kept for row in state.last):
        assert all(last.amounts)
        worth.subtract(dict(zip(last.owners, last.amounts, strict=True)))
    assert not any(worth.values())


def test_a_seal_that_posts_to_an_account_there_is_not_is_parked_rather_than_summed_without_it() -> None:
    company = Company()
    company.take(("tell", "cus_1", "in_1", "2026-01", 10))
    company.take(("close", "", "", "", 0))
    [seal] = company.seals
    lines = [one._replace(account="plunder") for one in seal.lines]
    [content] = chunks_of(lines, seal.movements, 10)
    build = Build()
    build.tell(content)
    [state] = build.chunks.values()
    with pytest.raises(ValueError, match="accounts that are none: plunder"):
        fold.rows(state)


async def test_a_build_that_keeps_no_sums_beside_its_rows_answers_the_same(book: Book) -> None:
    finalize(book.history, "02-20", 500, "in_3", "02-20", "03-20")
    await book.tell()
    await book.close("2026-01")
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-01")
    book.history.says("01-20", subscription("si_9 2 x 500/month", key="sub_9", customer="cus_9"), "created")
    await book.tell()
    await book.close("2026-02")
    finalize(book.history, "02-25", 700, "in_4", "02-25", "03-25")
    await book.tell()
    end = "2026-02-28T23:59:59Z"
    questions: list[tuple[str, dict[str, str]]] = [
        ("revenue/trial-balance", {"as_of": end}), ("revenue/recognition", {"from": "2026-01", "to": "2026-05"}),
        ("revenue/tie-out", {"month": "2026-02"}), ("revenue/tie-out", {"month": "2026-03"}),
        ("revenue/ageing", {"as_of": end}), ("revenue/mrr", {"at": end}),
        ("periods/2026-01", {}), ("periods/2026-02", {}),
        ("revenue/journal", {"from": "2026-03", "to": "2026-04"}),
    ]  # fmt: skip
    kept = [await book.get(path, **asked) for path, asked in questions]
    assert all(one.get("basis") == "sealed" for one in kept[:6])
    connection = await book.database.as_role("ledger_builder").connect()
    async with connection.transaction():
        await enter_build(connection, "periods", "self:live")
        assert all([await connection.fetchval(f"SELECT count(*) FROM {name}") for name in KEPT])
        await connection.execute(f"DROP TABLE {', '.join(KEPT)}")
    await connection.close()
    assert [await book.get(path, **asked) for path, asked in questions] == kept
