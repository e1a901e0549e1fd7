"""Files of a closed month are written from its seal: later facts do not move a byte of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from api.commands.transfer import export_rows
from api.exporting import Export, export_books
from ledger.errors import MistakeError
from tests.mrr.notation import Json, invoice, line, subscription, unix
from tests.periods.test_close import Book, book, finalize

__all__ = ["book"]

FORMATS = {
    "journal": ("csv", "jsonl", "parquet", "beancount"),
    "mrr": ("csv", "jsonl", "parquet"),
    "recognition": ("csv", "jsonl", "parquet"),
}
FIRST, SECOND, THIRD, FOURTH = (date(2026, month, 1) for month in (1, 2, 3, 4))


def tell_late(book: Book) -> None:
    book.history.says("01-20", subscription("si_9 2 x 500/month", key="sub_9", customer="cus_9"), "created")
    finalize(book.history, "01-20", 600, "in_2", "01-20", "02-20")
    book.history.says("02-10", subscription("si_1 2 x 9000/3 month"))


async def exported(book: Book, folder: Path, first: date, until: date, **more: str) -> dict[str, bytes]:
    """Write a stretch of months in every format, and read the files."""
    for what, formats in FORMATS.items():
        for format_ in formats:
            wanted = Export(what, "self:live", first, until, format_, folder / f"{what}.{format_}", **more)  # type: ignore[arg-type]
            await export_books(book.database, wanted, lambda _: None)
    return files_in(folder)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def lines_of(files: dict[str, bytes], what: str = "journal") -> list[Json]:
    return [json.loads(line) for line in files[f"{what}.jsonl"].splitlines()]


def amounts(lines: list[Json]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for one in lines:
        found[one["customer"], one["account"]] += one["amount"]
    return Counter({key: amount for key, amount in found.items() if amount})


async def test_a_closed_month_is_written_as_it_was_sealed(book: Book, tmp_path: Path) -> None:
    before = await exported(book, made(tmp_path / "open"), FIRST, SECOND)
    for month in ("2026-01", "2026-02"):
        await book.close(month)
    sealed = await exported(book, made(tmp_path / "sealed"), FIRST, SECOND)
    second = await exported(book, made(tmp_path / "second"), SECOND, THIRD)
    for name in ("journal.jsonl", "journal.beancount", "recognition.csv"):
        assert sorted(before[name].splitlines()) == sorted(sealed[name].splitlines())
    tell_late(book)
    await book.tell()
    assert await exported(book, made(tmp_path / "later"), FIRST, SECOND) == sealed
    assert await exported(book, made(tmp_path / "later-second"), SECOND, THIRD) == second
    restated = await exported(book, made(tmp_path / "restated"), FIRST, SECOND, basis="restated")
    assert all(restated[name] != sealed[name] for name in sealed)


async def test_what_is_sealed_and_what_changed_is_what_is_so(book: Book, tmp_path: Path) -> None:
    """And the first open month's file says the same as the journal over HTTP."""
    for month in ("2026-01", "2026-02"):
        await book.close(month)
    tell_late(book)
    await book.tell()
    reported = await exported(book, made(tmp_path / "reported"), FIRST, FOURTH)
    so = await exported(book, made(tmp_path / "so"), FIRST, FOURTH, basis="restated")
    assert amounts(lines_of(reported)) == amounts(lines_of(so))
    march = lines_of(await exported(book, made(tmp_path / "march"), THIRD, FOURTH))
    asked = await book.get("revenue/journal", **{"from": "2026-03", "to": "2026-04", "limit": "500"})
    told = [(entry["entry"], line["account"], line["amount"], line["product"], entry["original_month"])
            for entry in asked["data"] for line in entry["lines"]]  # fmt: skip
    assert told == [
        (one["entry"], one["account"], one["amount"], one["product"], one["original_month"]) for one in march
    ]
    assert {one["original_month"] for one in march if one["kind"] == "prior_period"} == {"2026-01", "2026-02"}
    moved = lines_of(reported, "mrr")
    assert [(one["at"][:10], one["customer"], one["before"], one["after"], one["reason"]) for one in moved] == [
        ("2026-01-10", "cus_1", 0, 3000, None),
        ("2026-03-01", "cus_1", 3000, 6000, "prior_period"),
        ("2026-03-01", "cus_9", 0, 1000, "prior_period"),
    ]
    paged: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await book.get("revenue/journal", **{"from": "2026-01", "to": "2026-04", "limit": "2"}, **cursor)
        paged += [entry["entry"] for entry in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert paged == list(dict.fromkeys(one["entry"] for one in lines_of(reported)))


async def test_sums_beyond_64_bits_are_closed_and_written(book: Book, tmp_path: Path) -> None:
    large = 9 * 10**18 + 1  # three of it are no binary fraction
    for key in ("7", "8", "9"):
        line_ = line("si_7", large, id=f"il_{key}", period={"start": unix("01-10"), "end": unix("01-10")})
        amounts_ = {"total_excluding_tax": large, "amount_due": large, "amount_remaining": 0, "amount_paid": large}
        more = {"id": f"in_{key}", "customer": f"cus_{key}", "parent": None, "status": "paid", **amounts_}
        moments = {"status_transitions": {"finalized_at": unix("01-10"), "paid_at": unix("01-10")}}
        book.history.event("01-10", "invoice.finalized", invoice(line_, reason="manual", **more, **moments))
        paid = {
            "id": f"inpay_{key}",
            "object": "invoice_payment",
            "invoice": f"in_{key}",
            "status": "paid",
            "currency": "usd",
            "amount_paid": large,
            "payment": {"type": "payment_intent", "payment_intent": f"pi_{key}"},
            "status_transitions": {"paid_at": unix("01-10")},
        }
        book.history.event("01-10", "invoice_payment.paid", paid)
    await book.tell()
    closed = await book.close("2026-01", force=True)
    [clearing] = [one for one in closed["exceptions"] if one["check"] == "clearing"]
    assert clearing["about"] == [{"account": "payments_clearing", "currency": "usd", "amount": 3 * large}]
    listed = (await book.client.get("/v1/periods")).json()["data"][0]["exceptions"]
    shown = (await book.client.get("/v1/periods/2026-01")).json()["exceptions"]
    assert listed == shown == closed["exceptions"], "each amount as it was sealed"
    wanted = Export("recognition", "self:live", FIRST, SECOND, "jsonl", tmp_path / "recognition.jsonl")
    await export_books(book.database, wanted, lambda _: None)
    assert [one["billed"] for one in lines_of(files_in(tmp_path), "recognition")] == [3 * large + 9000]
    with pytest.raises(MistakeError, match="use csv or jsonl"):
        await export_books(book.database, replace(wanted, format="parquet", path=tmp_path / "x"), lambda _: None)
    assert await export_rows(book.services.settings, book.database, "periods-1", tmp_path / "rows.jsonl") > 0
    assert str(3 * large) in (tmp_path / "rows.jsonl").read_text()
    assert sorted(files_in(tmp_path)) == ["recognition.jsonl", "rows.jsonl"]
