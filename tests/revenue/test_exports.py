"""Books in files: what a spreadsheet, Parquet and Beancount read is what we say."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from beancount import loader
from beancount.core import realization
from beancount.core.data import Transaction
from pyarrow import parquet

from api.exporting import Export, export_books
from api.services import Services
from api.tabular import safe_cell
from ledger.errors import MistakeError
from ledger.money import whole
from ledger.postgres import Database
from ledger.simulator.company import MIXED, Arguments, Company
from projections.revenue.beancount import account_name
from tests.projections.histories import new_events
from tests.revenue.stories import events_of
from tests.revenue.test_golden import GOLDEN
from tests.revenue.test_reads import ask, load

FIRST, UNTIL = date(1970, 1, 1), date(2035, 1, 1)


def export_of(path: Path, what: str = "journal", **more: Any) -> Export:
    whole_book = Export(what, "self:live", FIRST, UNTIL, path.suffix[1:], path)
    return replace(whole_book, **more)


async def test_every_format_says_the_same(services: Services, database: Database, tmp_path: Path) -> None:
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    counts = {
        await export_books(database, export_of(tmp_path / f"journal.{format_}"), lambda _: None)
        for format_ in ("csv", "jsonl", "parquet")
    }
    with (tmp_path / "journal.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    table = parquet.read_table(tmp_path / "journal.parquet").to_pylist()
    assert counts == {len(rows)} == {len(lines)} == {len(table)}
    assert (
        [int(row["amount"]) for row in rows] == [line["amount"] for line in lines] == [row["amount"] for row in table]
    )
    assert {row["entry"] for row in rows} >= {"in_1:finalize", "re_1:in_1", "il_1_1:rec:2026-02"}
    assert table[0]["at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert rows[0]["at"] == lines[0]["at"] == "2026-01-01T00:00:00Z", "as the routes write it"
    assert list(lines[0]) == list(rows[0]) == list(table[0])
    assert sum(row["amount"] for row in table) == 0
    assert files_in(tmp_path) == [tmp_path / f"journal.{format_}" for format_ in ("csv", "jsonl", "parquet")]


async def test_recognition_is_a_row_a_month(services: Services, database: Database, tmp_path: Path) -> None:
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    path = tmp_path / "quarter.csv"
    await export_books(
        database, export_of(path, "recognition", first=date(2026, 1, 1), until=date(2026, 4, 1)), lambda _: None
    )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["month"], row["recognized"], row["released_refunds"]) for row in rows] == [
        ("2026-01", "3100", "0"), ("2026-02", "2520", "590"), ("2026-03", "2790", "0"),
    ]  # fmt: skip
    whole = tmp_path / "whole.csv"
    await export_books(database, export_of(whole, "recognition", until=date(2026, 4, 1)), lambda _: None)
    assert whole.read_text() == path.read_text(), "before the first event there is nothing to write"


async def test_recognition_of_a_book_without_events_has_the_same_columns(
    services: Services, database: Database, tmp_path: Path
) -> None:
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    for format_ in ("csv", "parquet"):
        whole, none = tmp_path / f"whole.{format_}", tmp_path / f"none.{format_}"
        await export_books(database, export_of(whole, "recognition", until=date(2026, 4, 1)), lambda _: None)
        wanted = replace(export_of(none, "recognition", until=date(2026, 4, 1)), book="self:test")
        assert await export_books(database, wanted, lambda _: None) == 0
    header = (tmp_path / "whole.csv").read_text().splitlines()[0]
    assert (tmp_path / "none.csv").read_text().splitlines() == [header]
    names = [parquet.read_table(tmp_path / f"{name}.parquet").column_names for name in ("whole", "none")]
    assert names[0] == names[1] == header.split(",")


async def test_the_log_is_a_table_of_its_events(services: Services, database: Database, tmp_path: Path) -> None:
    """``--from`` and ``--to`` are about when events were created; every format has the data Stripe sent."""
    await load(services, database, events_of(GOLDEN["partial refund"][0]))
    for format_ in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"events.{format_}"
        assert await export_books(database, export_of(path, "events", first=date(2026, 2, 1)), lambda _: None) == 1
    with (tmp_path / "events.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    [line] = [json.loads(text) for text in (tmp_path / "events.jsonl").read_text().splitlines()]
    [record] = parquet.read_table(tmp_path / "events.parquet").to_pylist()
    assert line["type"] == row["type"] == record["type"] == "refund.created"
    assert line["data"] == json.loads(row["data"]) == json.loads(record["data"])
    assert line["data"]["object"]["id"] == "re_1"
    assert (line["erased"], row["erased"], record["erased"]) == (False, "false", False)
    assert (record["position"], record["created"]) == (int(row["position"]), datetime(2026, 2, 1, tzinfo=UTC))
    whole_log = tmp_path / "all.jsonl"
    count = await export_books(database, export_of(whole_log, "events"), lambda _: None)
    assert [json.loads(text)["position"] for text in whole_log.read_text().splitlines()] == list(range(1, count + 1))


async def test_beancount_accepts_a_company_and_counts_the_same(
    client: httpx.AsyncClient, services: Services, database: Database, tmp_path: Path
) -> None:
    made = Company(Arguments(customers=30, months=12, seed=3, api_version=MIXED))
    bodies = [json.dumps(event).encode() for event in made.events()]
    for start in range(0, len(bodies), 500):
        await services.appender.append(new_events(bodies[start : start + 500]))
    await load(services, database, [])
    path = tmp_path / "books.beancount"
    count = await export_books(database, export_of(path, until=date(2024, 10, 1)), lambda _: None)
    entries, errors, _ = loader.load_file(str(path))
    assert errors == []
    assert sum(isinstance(one, Transaction) for one in entries) == count > 500
    assert all(one.links for one in entries if isinstance(one, Transaction))
    ours = (await ask(client, "trial-balance", at="2024-09-30T23:59:59Z"))["balances"]
    assert theirs(entries) == {
        (account_name(account), currency.upper()): whole(amount, currency)
        for currency, amounts in ours.items()
        for account, amount in amounts.items()
        if amount
    }
    rest = tmp_path / "rest.beancount"
    await export_books(database, export_of(rest, first=date(2024, 6, 1), until=date(2024, 10, 1)), lambda _: None)
    some, errors, _ = loader.load_file(str(rest))
    assert (errors, theirs(some)) == ([], theirs(entries))
    assert len(some) < len(entries)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def theirs(entries: Any) -> dict[tuple[str, str], Decimal]:
    """Ask Beancount for the balances it comes to."""
    root = realization.realize(entries)  # type: ignore[no-untyped-call]
    return {
        (account.account, position.units.currency): position.units.number
        for account in realization.iter_children(root)  # type: ignore[no-untyped-call]
        for position in account.balance
    }


async def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    services: Services, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(MistakeError, match="not built yet"):
        await export_books(database, export_of(tmp_path / "journal.csv"), lambda _: None)
    for what, format_ in (("journal", "xlsx"), ("recognition", "beancount"), ("events", "beancount")):
        with pytest.raises(MistakeError, match="not written as"):
            await export_books(database, export_of(tmp_path / "x", what, format=format_), lambda _: None)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("cell", "safe"),
    [("=1+1", "'=1+1"), ("+1", "'+1"), ("-x", "'-x"), ("@sum", "'@sum"), ("\tx", "'\tx"), ("\n=1", "'\n=1"),
     ("\uff1d1", "'\uff1d1"), (-5, -5), ("in_1", "in_1"), (["evt_1", "evt_2"], "evt_1 evt_2"),
     (["=evt"], "'=evt"), (None, None)],
)  # fmt: skip
def test_no_cell_is_a_formula(cell: object, safe: object) -> None:
    assert safe_cell(cell) == safe


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [(500, "jpy", "500"), (1230, "kwd", "1.230"), (500, "ugx", "5.00"), (500, "isk", "5.00"), (-5, "usd", "-0.05"),
     (2**63, "usd", "92233720368547758.08"), (0, "eur", "0.00")],
)  # fmt: skip
def test_amounts_are_written_with_their_currency_s_decimals(amount: int, currency: str, written: str) -> None:
    assert str(whole(amount, currency)) == written
