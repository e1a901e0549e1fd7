"""Appending: gapless, once, all or none, whoever else appends at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from ledger.appender import Appender, Limits
from ledger.errors import LogUnavailableError, VersionConflictError
from ledger.event import NewEvent, Source
from ledger.flush import Appended
from ledger.leaf import EMPTY_ENVELOPE, body_digest, chain_envelope, header_of
from ledger.merkle import extend, leaf_hash
from ledger.postgres import Database
from ledger.reader import StoredEvent, read_event, read_tail
from tests.conftest import ManualClock
from tests.stripe_events import event, new_event, subscription

SCANNED = "SELECT n_tup_ins, seq_scan FROM pg_stat_user_tables WHERE relid = 'ledger.event_key'::regclass"

WAITING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"

COMMITS = "SELECT count(DISTINCT xmin::text) FROM ledger.event WHERE event_id = ANY ($1)"


def made(event_id: str, *, live: bool = True, customer: str = "cus_1") -> NewEvent:
    return new_event(event(event_id, "customer.subscription.updated", subscription(customer=customer), live=live))


async def log_of(database: Database, book: str = "self:live") -> list[StoredEvent]:
    connection = await database.as_role("ledger_app").connect()
    try:
        return await read_tail(connection, book, 0, 10_000)
    finally:
        await connection.close()


async def test_positions_are_gapless_and_events_come_back_byte_for_byte(database: Database, clock: ManualClock) -> None:
    events = [made(f"evt_{n}") for n in range(5)]
    async with Appender(database, clock=clock) as appender:
        assert await appender.append(events[:2]) == [Appended(1, False), Appended(2, False)]
        assert await appender.append(events[2:]) == [Appended(n, False) for n in (3, 4, 5)]
    stored = await log_of(database)
    assert [one.position for one in stored] == [1, 2, 3, 4, 5]
    assert [one.body for one in stored] == [one.body for one in events]
    assert {one.recorded_at for one in stored} == {clock.now}


async def test_a_short_log_is_not_read_for_each_batch(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    # Nothing was analysed yet, and it has few pages: left to itself, PostgreSQL reads them all, and goes on to.
    async with Appender(database, clock=clock) as appender:
        for batch in range(10):
            await appender.append([made(f"evt_{batch}_{n}") for n in range(25)])
    counted = await owner.fetchrow(SCANNED)
    async with asyncio.timeout(10):  # what a connection did is counted when it ends, if not before
        while counted["n_tup_ins"] < 250:
            await asyncio.sleep(0.05)
            counted = await owner.fetchrow(SCANNED)
    assert counted["seq_scan"] == 0


async def test_a_duplicate_takes_no_position_and_answers_the_first_one(database: Database, clock: ManualClock) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([made("evt_1"), made("evt_2")])
        again = await appender.append([made("evt_2"), made("evt_3"), made("evt_3"), made("evt_1")])
    assert again == [Appended(2, True), Appended(3, False), Appended(3, True), Appended(1, True)]
    assert [one.event_id for one in await log_of(database)] == ["evt_1", "evt_2", "evt_3"]


async def test_many_callers_and_processes_share_one_order(database: Database, clock: ManualClock) -> None:
    async def write(appender: Appender, writer: int) -> list[int]:
        answers = [await appender.append([made(f"evt_{writer}_{n}")]) for n in range(25)]
        return [answer[0].position for answer in answers]

    async with Appender(database, clock=clock) as one, Appender(database, clock=clock) as other:
        written = await asyncio.gather(*(write((one, other)[n % 2], n) for n in range(8)))
    assert sorted(position for positions in written for position in positions) == list(range(1, 201))
    assert all(positions == sorted(positions) for positions in written)
    assert [one.position for one in await log_of(database)] == list(range(1, 201))


class Overtaken:
    """A clock under whose eyes another process appends, twice: who asked it so often has lost two races."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self._database, self._clock = database, clock
        self._others: Iterator[NewEvent] = iter([made("evt_other_1"), made("evt_other_2")])

    def __call__(self) -> datetime:
        if (event := next(self._others, None)) is not None:
            other = threading.Thread(target=lambda: asyncio.run(self._append(event)))
            other.start()
            other.join()
        return self._clock()

    async def _append(self, event: NewEvent) -> None:
        async with Appender(self._database, clock=self._clock) as appender:
            await appender.append([event])


async def test_who_waits_for_others_gathers_meanwhile_and_is_written_at_once(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([made("evt_1")])
    async with Appender(database, clock=Overtaken(database, clock)) as appender:
        await appender.append([made("evt_2")])
        async with owner.transaction():
            await owner.execute("SELECT FROM ledger.head WHERE book = 'self:live' FOR UPDATE")
            waiting = [asyncio.ensure_future(appender.append([made("evt_3")]))]
            async with asyncio.timeout(10):
                while not await owner.fetchval(WAITING):  # noqa: ASYNC110 - the database does not say when
                    await asyncio.sleep(0.01)
            waiting += [asyncio.ensure_future(appender.append([made(f"evt_{n}")])) for n in range(4, 10)]
            await asyncio.sleep(0.05)
            # Of another book, whose head it could lock too late only: it comes after.
            waiting.append(asyncio.ensure_future(appender.append([made("evt_10", live=False)])))
            await asyncio.sleep(0.05)
            assert not any(one.done() for one in waiting)
        places = [place for one in waiting for place in await one]
    assert places == [Appended(n + 2, False) for n in range(3, 10)] + [Appended(1, False)]
    assert await owner.fetchval(COMMITS, [f"evt_{n}" for n in range(3, 10)]) == 1
    assert await owner.fetchval(COMMITS, ["evt_9", "evt_10"]) == 2


async def test_the_same_events_from_two_processes_are_stored_once(database: Database, clock: ManualClock) -> None:
    events = [made(f"evt_{n}") for n in range(40)]
    async with Appender(database, clock=clock) as one, Appender(database, clock=clock) as other:
        answers = await asyncio.gather(*(process.append([each]) for each in events for process in (one, other)))
    firsts = [answer[0] for answer in answers if not answer[0].duplicate]
    assert len(firsts) == 40
    assert sorted(one.position for one in firsts) == list(range(1, 41))
    assert len(await log_of(database)) == 40


async def test_books_have_positions_of_their_own(database: Database, clock: ManualClock) -> None:
    async with Appender(database, clock=clock) as appender:
        places = await appender.append([made("evt_1"), made("evt_1", live=False), made("evt_2")])
        async with asyncio.timeout(10):  # what one book has, the other never hears of
            places += await appender.append([made("evt_2", live=False)])
    assert places == [Appended(1, False), Appended(1, False), Appended(2, False), Appended(2, False)]
    assert [one.event_id for one in await log_of(database, "self:test")] == ["evt_1", "evt_2"]


async def test_one_id_in_two_shapes_is_stored_once_whichever_comes_first(
    database: Database, clock: ManualClock
) -> None:
    """A backfilled copy may name its customer elsewhere and so lead to another stream (decision 2)."""
    by_customer = made("evt_1")
    by_itself = new_event(event("evt_1", "customer.subscription.updated", subscription(customer="")))
    other_first = [replace(by_itself, book="self:test"), replace(by_customer, book="self:test")]
    assert by_customer.stream_id != by_itself.stream_id
    async with Appender(database, clock=clock) as appender:
        assert await appender.append([by_customer]) == [Appended(1, False)]
        assert await appender.append([by_itself]) == [Appended(1, True)]
        assert await appender.append(other_first[:1]) == [Appended(1, False)]
        assert await appender.append(other_first[1:]) == [Appended(1, True)]
    for book in ("self:live", "self:test"):
        assert len(await log_of(database, book)) == 1


async def test_a_conflicting_copy_is_kept_beside_the_first_and_a_mere_redelivery_is_not(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    first = event("evt_1", "customer.subscription.updated", subscription())
    async with Appender(database, clock=clock) as appender:
        await appender.append([new_event(first)])
        await appender.append([new_event(first | {"pending_webhooks": 0})])
        assert await owner.fetchval("SELECT count(*) FROM ledger.event_conflict") == 0
        await appender.append([new_event(first | {"api_version": "2020-08-27"})])
        await appender.append([new_event(first | {"api_version": "2020-08-27"})])
    assert await owner.fetch("SELECT event_id, api_version FROM ledger.event_conflict") == [("evt_1", "2020-08-27")]
    assert (await log_of(database))[0].api_version == "2026-10-28.endive"


def operator(event_id: str, version: int, stream: str = "grant-1") -> NewEvent:
    return replace(
        made(event_id), type="ledger.grant.created", source=Source.OPERATOR, version=version, stream_id=stream
    )


async def test_a_version_conflict_fails_its_caller_alone(database: Database, clock: ManualClock) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([operator("op_1", 1)])
        async with asyncio.timeout(10):  # and it is told, not tried for ever
            results = await asyncio.gather(
                appender.append([made("evt_1"), operator("op_2", 1)]),
                appender.append([made("evt_2")]),
                appender.append([operator("op_3", 2)]),
                appender.append([operator("op_4", 2)]),
                return_exceptions=True,
            )
    assert [type(one) for one in results] == [VersionConflictError, list, list, VersionConflictError]
    assert [one.event_id for one in await log_of(database)] == ["op_1", "evt_2", "op_3"]


async def test_appending_an_operators_event_again_is_no_conflict(database: Database, clock: ManualClock) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([operator("op_1", 1)])
        assert await appender.append([operator("op_1", 1)]) == [Appended(1, True)]


async def test_recorded_at_never_falls(database: Database, clock: ManualClock) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([made("evt_1")])
        newest = clock.now
        clock.forward(hours=-2)
        await appender.append([made("evt_2")])
    assert [one.recorded_at for one in await log_of(database)] == [newest, newest]


async def test_a_full_queue_refuses_at_once(database: Database, clock: ManualClock) -> None:
    async with Appender(database, clock=clock, limits=Limits(waiting_events=2)) as appender:
        waiting = asyncio.gather(appender.append([made("evt_1")]), appender.append([made("evt_2")]))
        await asyncio.sleep(0)
        with pytest.raises(LogUnavailableError, match="too many"):
            await appender.append([made("evt_3")])
        assert [one[0].position for one in await waiting] == [1, 2]


async def test_a_queue_full_of_bytes_refuses_at_once(database: Database, clock: ManualClock) -> None:
    size = len(made("evt_0").body)
    async with Appender(database, clock=clock, limits=Limits(waiting_bytes=2 * size)) as appender:
        answers = await asyncio.gather(*(appender.append([made(f"evt_{n}")]) for n in range(4)), return_exceptions=True)
        assert [type(one) for one in answers] == [list, list, LogUnavailableError, LogUnavailableError]
        assert await appender.append([made("evt_4")]) == [Appended(3, False)]


async def test_a_database_that_is_not_there_refuses_and_is_found_again(
    database: Database, database_name: str, owner: asyncpg.Connection, clock: ManualClock
) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([made("evt_1")])
        await owner.execute(f"ALTER DATABASE {database_name} CONNECTION LIMIT 0")
        await owner.execute(END_SESSIONS)
        await asyncio.sleep(0.1)
        with pytest.raises(LogUnavailableError):
            await appender.append([made("evt_2")])
        await owner.execute(f"ALTER DATABASE {database_name} CONNECTION LIMIT -1")
        assert await _until_appended(appender, made("evt_2")) == [Appended(2, False)]


END_SESSIONS = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE usename = 'ledger_service' AND datname = current_database()
"""


async def test_an_appender_that_ends_while_it_learns_leaves_no_connection(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[asyncpg.Connection] = []
    learning = asyncio.Event()

    async def slow(_: Appender, connection: asyncpg.Connection) -> None:
        opened.append(connection)
        learning.set()
        await asyncio.Event().wait()

    async with Appender(database, clock=clock) as appender:
        await appender.append([made("evt_1")])
        monkeypatch.setattr(Appender, "_use_dictionary", slow)
        connection = appender._connection
        assert connection is not None
        connection.terminate()
        waiting = asyncio.create_task(appender.append([made("evt_2")]))
        await learning.wait()
    with pytest.raises(LogUnavailableError):
        await waiting
    assert [one.is_closed() for one in opened] == [True]


async def _until_appended(appender: Appender, wanted: NewEvent) -> list[Appended]:
    for _ in range(100):
        try:
            return await appender.append([wanted])
        except LogUnavailableError:
            await asyncio.sleep(0.05)
    raise AssertionError("the appender never found the database again")


async def test_what_the_database_refuses_fails_its_caller_alone(database: Database, clock: ManualClock) -> None:
    bad = replace(made("evt_bad"), signature="nul \x00")
    async with Appender(database, clock=clock) as appender:
        results = await asyncio.gather(
            appender.append([made("evt_1")]),
            appender.append([bad]),
            appender.append([made("evt_2")]),
            return_exceptions=True,
        )
    assert [type(one) for one in results] == [list, LogUnavailableError, list]
    assert [one.event_id for one in await log_of(database)] == ["evt_1", "evt_2"]


async def test_leaf_frontier_and_envelope_are_those_of_the_stored_rows(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    async with Appender(database, clock=clock) as appender:
        for n in range(7):
            await appender.append([made(f"evt_{n}_{m}") for m in range(n)])
    rows = await owner.fetch("SELECT * FROM ledger.event WHERE book = 'self:live' ORDER BY position")
    bodies = {one.position: one.body for one in await log_of(database)}
    envelope = EMPTY_ENVELOPE
    for row in rows:
        assert row["body_digest"] == body_digest(row["salt"], bodies[row["position"]])
        assert row["leaf"] == leaf_hash(header_of(row).encode())
        envelope = chained(envelope, row)
    head = await owner.fetchrow("SELECT * FROM ledger.head WHERE book = 'self:live'")
    assert head["position"] == len(rows) == 21
    assert head["frontier"] == extend(0, b"", [row["leaf"] for row in rows])
    assert head["envelope"] == envelope
    assert len({row["salt"] for row in rows}) == 21


def chained(envelope: bytes, row: Any) -> bytes:
    names = ("version", "received_at", "signature", "api_version", "encoding", "dictionary_id")
    return chain_envelope(envelope, **{name: row[name] for name in names})


@pytest.mark.parametrize("statement", ["UPDATE ledger.event SET type = 'x'", "DELETE FROM ledger.event"])
@pytest.mark.parametrize("role", ["postgres", "ledger_owner", "ledger_app", "ledger_builder"])
async def test_events_are_never_changed(
    database: Database, clock: ManualClock, owner: asyncpg.Connection, role: str, statement: str
) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([made("evt_1")])
    before = await owner.fetch("SELECT * FROM ledger.event")
    await owner.execute(f"SET ROLE {role}")
    for attempt in (statement, "TRUNCATE ledger.event", "SET session_replication_role = replica; " + statement):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(attempt)
    await owner.execute("RESET ROLE")
    assert await owner.fetch("SELECT * FROM ledger.event") == before


async def test_the_tail_stops_at_the_first_missing_position(
    database: Database, clock: ManualClock, owner: asyncpg.Connection
) -> None:
    async with Appender(database, clock=clock) as appender:
        await appender.append([made(f"evt_{n}") for n in range(1, 6)])
    await owner.execute("ALTER TABLE ledger.event DISABLE TRIGGER event_is_immutable")
    await owner.execute("DELETE FROM ledger.event WHERE position = 3")
    assert [one.position for one in await read_tail(owner, "self:live", 0, 10)] == [1, 2]
    assert await read_tail(owner, "self:live", 2, 10) == []
    assert (await read_event(owner, "self:live", "evt_4")) is not None
