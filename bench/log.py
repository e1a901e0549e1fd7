"""The log's rows: append, import, bytes per event, verify, prove."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import asyncpg
import orjson

from api.signing import generate_signing_key, signer_of
from bench.events import EventSource
from bench.ground import Ground
from bench.table import Row, percentiles_ms, rate
from ledger.appender import Appender, Limits
from ledger.batch import Head, number, prepare
from ledger.codec import BodyCodec
from ledger.event import NewEvent, Source, parse_envelope, received_event, stream_of
from ledger.importing import import_file
from ledger.notary import Notary
from ledger.outside import Outside
from ledger.postgres import Database
from ledger.reader import read_event, read_tail
from ledger.verify import verify_log


def now() -> datetime:
    return datetime.now(UTC)


def new_event(body: bytes, source: Source = Source.WEBHOOK) -> NewEvent:
    signature = f"t=1760000000,v1={sha256(body).hexdigest()}" if source is Source.WEBHOOK else None
    return received_event(
        parse_envelope(body), body, platform_account="self", source=source, received_at=now(), signature=signature
    )


async def append_rows(ground: Ground, count: int) -> list[Row]:
    """Append from 1, 128 and 2,000 waiting callers, beside the same appender with one transaction an event."""
    rows = []
    for waiting, share in ((1, 10), (128, 1), (2_000, 1)):
        ours, latencies = await _append(await ground.fresh(), count // share, waiting, Limits())
        singly, _ = await _append(await ground.fresh(), count // share // 5, waiting, Limits(batch_events=1))
        p50, p99 = percentiles_ms(latencies)
        peer = f"{singly:,.0f}/s one transaction each"
        wanted = "≥ 5" if waiting == 128 else ""
        rows.append(Row(f"append, {waiting} waiting", f"{ours:,.0f}/s", peer, ours / singly, wanted, p50, p99))
    return rows


async def _append(database: Database, count: int, waiting: int, limits: Limits) -> tuple[float, list[float]]:
    source = EventSource(waiting)
    events = [new_event(source.body()) for _ in range(count)]
    async with Appender(database, clock=now, limits=limits) as appender:
        await appender.append([new_event(source.body())])
        began = time.perf_counter()
        latencies = await appending(appender, events, waiting)
        return count / (time.perf_counter() - began), latencies


async def appending(appender: Appender, events: list[NewEvent], waiting: int) -> list[float]:
    """Append one by one from so many callers; return how long each took."""
    latencies: list[float] = []

    async def caller() -> None:
        while events:
            event = events.pop()
            began = time.perf_counter()
            await appender.append([event])
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(waiting)))
    return latencies


def proof_row(count: int, append_seconds: float) -> Row:
    """What hashing costs: numbering with leaf, tree and envelope chain, as a share of appending one event."""
    source, codec = EventSource(5), BodyCodec()
    prepared = []
    for _ in range(count):
        event = new_event(source.body())
        encoded = codec.encode(event.body)
        prepared.append(prepare(event, salt=os.urandom(16), encoding=encoded.encoding, stored_body=encoded.stored))
    began = time.perf_counter()
    heads: dict[str, Head] = {}
    for start in range(0, count, 128):
        heads = number(prepared[start : start + 128], heads, lambda _: now())[1]
    for one in prepared:
        sha256(one.salt + one.event.body).digest()
    seconds = (time.perf_counter() - began) / count
    ratio = seconds / append_seconds
    beside = f"{append_seconds * 1e6:.0f} µs an append"
    return Row("proof, per event", f"{seconds * 1e6:.1f} µs", beside, ratio, "≤ 0.05")


COPY_TABLE = """
CREATE TABLE bare (LIKE ledger.event);
ALTER TABLE bare ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE bare ADD PRIMARY KEY (stream_id, version);
CREATE INDEX ON bare (book, position)
"""


async def import_row(ground: Ground, count: int) -> Row:
    """Import a file, beside parsing, compressing, hashing and copying it into the same table without order or proof."""
    file = ground.folder / "events.jsonl"
    source = EventSource(6)
    file.write_bytes(b"".join(orjson.dumps(orjson.loads(source.body())) + b"\n" for _ in range(count)))
    database = await ground.fresh()
    async with Appender(database, clock=now) as appender:
        began = time.perf_counter()
        await import_file(appender, file, platform_account="self", now=now())
        ours = time.perf_counter() - began
    connection = await ground.owner()
    await connection.execute(COPY_TABLE)
    began = time.perf_counter()
    await _copy(connection, file)
    limit = time.perf_counter() - began
    await connection.close()
    return Row("bulk import", rate(count, ours), f"{rate(count, limit)} parse, zstd, hash, COPY", limit / ours, "≥ 0.5")


async def _copy(connection: asyncpg.Connection, file: Path) -> None:
    codec = BodyCodec()
    columns = [row["column_name"] for row in await connection.fetch(COLUMNS)]
    records = []
    with file.open("rb") as lines:
        for position, line in enumerate(lines, 1):
            body = line.rstrip(b"\n")
            parsed = orjson.loads(body)
            encoded = codec.encode(body)
            salt = os.urandom(16)
            digest = sha256(salt + body).digest()
            moment = now()
            records.append((
                stream_of("self:live", parsed), position, "self:live", position, parsed["id"], parsed["type"], moment,
                moment, moment, "import", parsed["api_version"], None, encoded.encoding, None, salt, encoded.stored,
                digest, digest,
            ))  # fmt: skip
            if len(records) == 500:
                await connection.copy_records_to_table("bare", records=records, columns=columns)
                records = []
    await connection.copy_records_to_table("bare", records=records, columns=columns)


COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'bare' ORDER BY ordinal_position"

SIZES = """
SELECT pg_total_relation_size('ledger.event') + pg_total_relation_size('ledger.event_key') AS bytes,
       (SELECT count(*) FROM ledger.event) AS events
"""


async def filled_rows(ground: Ground, count: int) -> list[Row]:
    """Fill a log once, then measure its size, its verification and its proofs."""
    database = await ground.fresh()
    source = EventSource(7)
    raw_bytes, last = 0, ""
    async with Appender(database, clock=now) as appender:
        for start in range(0, count, 1_000):
            bodies = [source.body() for _ in range(min(1_000, count - start))]
            raw_bytes += sum(map(len, bodies))
            events = [new_event(body) for body in bodies]
            last = events[-1].event_id
            await appender.append(events)
        connection = await ground.owner()
        await connection.execute("VACUUM ANALYZE ledger.event")
        size = await connection.fetchrow(SIZES)
        rows = [_size_row(size["bytes"] / size["events"], raw_bytes / count)]
        rows.append(await _verify_row(connection, count))
        rows.append(await _prove_row(database, appender, last, count))
        await connection.close()
    return rows


def _size_row(stored: float, raw: float) -> Row:
    growth = f"{stored:,.0f} B ({stored / 1000:,.2f} GB a million)"
    return Row("bytes per event, with indexes", growth, f"{raw:,.0f} B raw", stored / raw, "≤ 0.35")


async def _verify_row(connection: asyncpg.Connection, count: int) -> Row:
    began = time.perf_counter()
    position = 0
    while batch := await read_tail(connection, "self:live", position, 2_000):
        position = batch[-1].position
    limit = time.perf_counter() - began
    began = time.perf_counter()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        report = await verify_log(connection, [], [], full=True)
    ours = time.perf_counter() - began
    assert report.true, report.problems
    return Row("verify --full", rate(count, ours), f"{rate(count, limit)} read and decompress", limit / ours, "≥ 0.5")


async def _prove_row(database: Database, appender: Appender, event_id: str, count: int) -> Row:
    latencies, size = await proving(database, appender, event_id)
    p50, p99 = percentiles_ms(latencies)
    return Row(f"prove one of {count:,}", f"{size} B of text", "50 ms", p50 / 50, "≤ 1", p50, p99)


async def proving(database: Database, appender: Appender, event_id: str) -> tuple[list[float], int]:
    """Prove one event again and again; return how long each took, and the proof's length."""
    with tempfile.TemporaryDirectory() as folder:
        async with database.as_role("ledger_app").pool(max_size=4) as pool:
            notary = Notary(pool, appender, signer_of(generate_signing_key()), Outside([Path(folder)]), now)
            await notary.sign_all()
            latencies, size = [], 0
            async with pool.acquire() as connection:
                event = await read_event(connection, "self:live", event_id)
            assert event is not None
            for _ in range(50):
                began = time.perf_counter()
                size = len((await notary.prove(event)).encode())
                latencies.append(time.perf_counter() - began)
    return latencies, size
