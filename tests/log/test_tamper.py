"""The tamper matrix: whatever the table's owner changes with triggers disabled, ``verify`` finds.

Everything up to the newest checkpoint held outside the database is protected; the outside copy is what the owner of
the database cannot reach.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from api.services import Services
from api.signing import generate_signing_key, signer_of
from ledger.appender import Appender
from ledger.event import NewEvent
from ledger.fork import NothingLostError, UnknownKeyError, fork_log
from ledger.leaf import EMPTY_ENVELOPE, header_of
from ledger.merkle import extend, leaf_hash
from ledger.notary import ForkNeededError, Notary
from ledger.operator import operator_event
from ledger.outside import Outside
from ledger.postgres import Database
from ledger.verify import Report, verify_log
from tests.conftest import ManualClock
from tests.log.test_append import chained
from tests.stripe_events import event, new_event, subscription

EVENTS = 600
COLUMNS = {
    "stream_id": "stream_id || 'x'",
    "version": "version + 100000",
    "book": "'self:test'",
    "position": "position + 100000",
    "event_id": "event_id || 'x'",
    "type": "type || 'x'",
    "created": "created + interval '1 second'",
    "recorded_at": "recorded_at + interval '1 microsecond'",
    "received_at": "received_at - interval '1 microsecond'",
    "source": "'api'",
    "api_version": "'2020-08-27'",
    "signature": "signature || 'x'",
    "encoding": "0, dictionary_id = NULL",
    "dictionary_id": "coalesce(dictionary_id, 7) + 1, encoding = 2",
    "salt": "set_byte(salt, 0, get_byte(salt, 0) # 1)",
    "body": "set_bit(body, length(body) * 4, 1 - get_bit(body, length(body) * 4))",
    "body_digest": "set_byte(body_digest, 0, get_byte(body_digest, 0) # 1)",
    "leaf": "set_byte(leaf, 0, get_byte(leaf, 0) # 1)",
}

TAMPERS = {
    "delete the last": "DELETE FROM ledger.event WHERE book = 'self:live' AND position = 600",
    "delete one in the middle": "DELETE FROM ledger.event WHERE book = 'self:live' AND position = 300",
    "delete the first": "DELETE FROM ledger.event WHERE book = 'self:live' AND position = 1",
    "delete one and its key": """
        DELETE FROM ledger.event WHERE book = 'self:live' AND position = 300;
        DELETE FROM ledger.event_key WHERE book = 'self:live' AND position = 300
    """,
    "delete the last with its key and roll the head back": """
        DELETE FROM ledger.event WHERE book = 'self:live' AND position = 600;
        DELETE FROM ledger.event_key WHERE book = 'self:live' AND position = 600;
        UPDATE ledger.head SET position = 599, frontier = decode(repeat('00', 32 * bit_count(599::bit(64))::int), 'hex')
        WHERE book = 'self:live'
    """,
    "swap two": """
        UPDATE ledger.event SET position = CASE position WHEN 10 THEN 11 ELSE 10 END
        WHERE book = 'self:live' AND position IN (10, 11)
    """,
    "swap two bodies": """
        UPDATE ledger.event AS e SET body = o.body, salt = o.salt, body_digest = o.body_digest
        FROM ledger.event AS o
        WHERE e.book = 'self:live' AND o.book = 'self:live' AND e.position IN (10, 11) AND o.position = 21 - e.position
    """,
    "insert one": """
        INSERT INTO ledger.event
        SELECT stream_id || 'x', version + 1000, book, 601, 'evt_new', type, created, recorded_at, received_at, source,
               api_version, signature, encoding, dictionary_id, salt, body, body_digest, leaf
        FROM ledger.event WHERE book = 'self:live' AND position = 1
    """,
    "truncate": "TRUNCATE ledger.event",
    "truncate everything": """
        TRUNCATE ledger.event; TRUNCATE ledger.event_key; TRUNCATE ledger.log_checkpoint; TRUNCATE ledger.head
    """,
    "roll the head back": """
        UPDATE ledger.head SET position = 512, frontier = substr(frontier, 1, 32) WHERE book = 'self:live'
    """,
    "change the head's envelope": "UPDATE ledger.head SET envelope = decode(repeat('00', 32), 'hex')",
    "delete a checkpoint": "DELETE FROM ledger.log_checkpoint WHERE book = 'self:live' AND position = 300",
    "delete all checkpoints": "DELETE FROM ledger.log_checkpoint",
    "change a checkpoint": "UPDATE ledger.log_checkpoint SET note = replace(note, '300', '301')",
    "change a key": "UPDATE ledger.event_key SET position = 5 WHERE event_id = 'evt_9'",
    "record everything a moment later": """
        UPDATE ledger.event SET recorded_at = recorded_at + interval '1 microsecond' WHERE book = 'self:live';
        UPDATE ledger.head SET recorded_at = recorded_at + interval '1 microsecond' WHERE book = 'self:live'
    """,
    "let a body claim to hold an exbibyte": """
        UPDATE ledger.event
        SET encoding = 1, dictionary_id = NULL, body = decode('28b52ffde00000000000000010010000', 'hex')
        WHERE event_id = 'evt_9'
    """,
    "take a body away": "UPDATE ledger.event SET salt = '', body = '' WHERE event_id = 'evt_9'",
}

DISABLE = """
ALTER TABLE ledger.event DISABLE TRIGGER ALL;
ALTER TABLE ledger.event_key DISABLE TRIGGER ALL;
ALTER TABLE ledger.log_checkpoint DISABLE TRIGGER ALL;
"""


@dataclass
class Log:
    """A log of 600 events, signed at 300 and at 600, with its checkpoints outside."""

    owner: asyncpg.Connection
    outside: Outside
    services: Services

    async def verify(self) -> Report:
        await self.owner.execute("RESET ROLE")
        async with self.owner.transaction(isolation="repeatable_read", readonly=True):
            return await verify_log(self.owner, self.outside.keys(), self.outside.notes(), full=True)

    async def tamper(self, statement: str) -> None:
        await self.owner.execute("SET ROLE ledger_owner")
        await self.owner.execute(DISABLE)
        await self.owner.execute(statement)

    async def backup(self) -> Callable[[], Awaitable[None]]:
        """Return what restores the book as it is now."""
        head = await self.owner.fetchrow("SELECT * FROM ledger.head WHERE book = 'self:live'")

        async def restore() -> None:
            for table in ("event", "event_key", "log_checkpoint"):
                await self.tamper(f"DELETE FROM ledger.{table} WHERE book = 'self:live' AND position > {EVENTS}")
            again = "UPDATE ledger.head SET position = $1, frontier = $2, envelope = $3 WHERE book = 'self:live'"
            await self.owner.execute(again, head["position"], head["frontier"], head["envelope"])

        return restore


def updated(number: int) -> NewEvent:
    subject = subscription(customer=f"cus_{number % 7}")
    return new_event(event(f"evt_{number}", "customer.subscription.updated", subject))


@pytest.fixture
async def log(services: Services, owner: asyncpg.Connection, clock: ManualClock) -> Log:
    for half in range(2):
        numbers = range(1 + 300 * half, 301 + 300 * half)
        events = [
            event(f"evt_{n}", "customer.subscription.updated", subscription(customer=f"cus_{n % 7}")) for n in numbers
        ]
        await services.appender.append([new_event(one) for one in events])
        clock.forward(minutes=1)
        await services.notary.sign_all()
    return Log(owner, services.notary.outside, services)


async def test_an_untouched_log_is_true(log: Log) -> None:
    report = await log.verify()
    assert (report.problems, report.erased, report.lost) == ([], [], [])
    assert report.events == EVENTS + 3  # the log's dictionary, origin and key are events too
    assert report.checkpoints == 3


@pytest.mark.parametrize("position", [1, 299, 600])
@pytest.mark.parametrize("column", COLUMNS)
async def test_a_changed_column_is_found(log: Log, column: str, position: int) -> None:
    where = f"WHERE book = 'self:live' AND position = {position}"
    await log.tamper(f"UPDATE ledger.event SET {column} = {COLUMNS[column]} {where}")
    assert not (await log.verify()).true


COLUMN_NAMES = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledger' AND table_name = 'event'
"""


async def test_every_column_is_in_the_matrix(owner: asyncpg.Connection) -> None:
    columns = await owner.fetch(COLUMN_NAMES)
    assert {row["column_name"] for row in columns} == set(COLUMNS)


@pytest.mark.parametrize("name", TAMPERS)
async def test_a_tampered_log_is_found_out(log: Log, name: str) -> None:
    await log.tamper(TAMPERS[name])
    assert not (await log.verify()).true


@pytest.mark.parametrize(
    ("column", "said"), [("type", "is not the one that was signed"), ("signature", "are not what was signed")]
)
async def test_a_change_that_leaves_and_head_agree_with_is_found_out(log: Log, column: str, said: str) -> None:
    """The owner makes the event's leaf and the book's head anew, so that nothing but what was signed is against it."""
    where = "WHERE book = 'self:live'"
    await log.tamper(f"UPDATE ledger.event SET {column} = {COLUMNS[column]} {where} AND position = 150")
    leaves, envelope = [], EMPTY_ENVELOPE
    for row in await log.owner.fetch(f"SELECT * FROM ledger.event {where} ORDER BY position"):
        leaves.append(leaf_hash(header_of(row).encode()))
        envelope = chained(envelope, row)
    await log.owner.execute(f"UPDATE ledger.event SET leaf = $1 {where} AND position = 150", leaves[149])
    frontier = extend(0, b"", leaves)
    await log.owner.execute(f"UPDATE ledger.head SET frontier = $1, envelope = $2 {where}", frontier, envelope)
    assert [said in problem for problem in (await log.verify()).problems] == [True, True]


async def test_history_rewritten_with_another_key_is_found_out(
    log: Log, database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Somebody replays other events and signs them with a key of their own, registered and all."""
    await log.tamper(TAMPERS["truncate everything"])
    events = [new_event(event(f"evt_{n}", "customer.updated", {"id": "cus_1"})) for n in range(EVENTS)]
    async with Appender(database, clock=clock) as appender:
        await appender.append(events)
        forger = Notary(
            log.services.pool, appender, signer_of(generate_signing_key()), Outside([tmp_path / "x"]), clock
        )
        await forger.sign_all()
    report = await log.verify()
    assert any("cannot be trusted" in problem for problem in report.problems)
    assert any("deleted from the database" in problem for problem in report.problems)


async def test_an_older_backup_is_found_out(log: Log, services: Services) -> None:
    """The state of the database after 600 events comes back when the outside has seen 601."""
    await services.appender.append([new_event(event("evt_601", "customer.updated", {"id": "cus_1"}))])
    await services.notary.sign_all()
    await log.tamper(
        """
        DELETE FROM ledger.event WHERE book = 'self:live' AND position = 601;
        DELETE FROM ledger.event_key WHERE book = 'self:live' AND position = 601;
        DELETE FROM ledger.log_checkpoint WHERE book = 'self:live' AND position = 601;
        """
    )
    problems = (await log.verify()).problems
    assert any("601 events were signed" in problem for problem in problems)
    with pytest.raises(ForkNeededError, match="signed at 601 events"):
        await services.notary.sign_all()


async def test_a_restored_log_that_went_on_is_forked_where_both_histories_agree(
    log: Log, services: Services, clock: ManualClock
) -> None:
    """After a restore events came, also where others had been signed before, until somebody forked the log."""

    async def update(*numbers: int) -> None:
        for number in numbers:
            await services.appender.append([new_event(event(f"evt_{number}", "customer.updated", {"id": "cus_1"}))])

    restore = await log.backup()
    await update(601, 602)
    await services.notary.sign_all()
    await update(603)
    await services.notary.sign_all()
    await restore()
    await update(701, 702, 703, 704)
    with pytest.raises(ForkNeededError, match="signed at 603 events"):
        await services.notary.sign_all()
    assert any("is not the one that was signed" in problem for problem in (await log.verify()).problems)

    async with services.pool.acquire() as connection:
        notes, keys = log.outside.notes(), log.outside.keys()
        lost = await fork_log(connection, services.appender, notes, keys, reason="restored", now=clock())
        assert lost == {"self:live": (601, 603)}
        await services.notary.sign_all()
        report = await log.verify()
        assert (report.problems, len(report.lost), report.events) == ([], 2, EVENTS + 3 + 4 + 2)
        with pytest.raises(NothingLostError):
            await fork_log(connection, services.appender, notes, keys, reason="again", now=clock())


async def test_a_log_is_not_forked_while_the_key_of_what_it_lost_is_unknown(
    log: Log, services: Services, clock: ManualClock, tmp_path: Path
) -> None:
    """Another machine signed last, with a key of its own: forked without it, what it signed could never be excused."""
    other = Notary(
        services.pool, services.appender, signer_of(generate_signing_key()), Outside([tmp_path / "x"]), clock
    )
    restore = await log.backup()
    for number, notary in enumerate([services.notary, other, services.notary], start=601):
        await services.appender.append([new_event(event(f"evt_{number}", "customer.updated", {"id": "cus_1"}))])
        await notary.sign_all()
    await restore()

    async def fork() -> dict[str, tuple[int, int]]:
        async with services.pool.acquire() as connection:
            notes, keys = log.outside.notes(), log.outside.keys()
            return await fork_log(connection, services.appender, notes, keys, reason="restored", now=clock())

    with pytest.raises(UnknownKeyError, match=f"was signed by {other.signer.name}") as refused:
        await fork()
    assert "`verifier-keys.txt`" in str(refused.value)
    log.outside.remember_key(other.signer.verifier)
    assert await fork() == {"self:live": (601, 603)}
    await services.notary.sign_all()
    report = await log.verify()
    assert (report.problems, len(report.lost)) == ([], 3)


async def test_an_erased_body_is_named_erased(log: Log, services: Services, clock: ManualClock) -> None:
    stored = await log.owner.fetchrow("SELECT * FROM ledger.event WHERE event_id = 'evt_9'")
    content = {"event_id": "evt_9", "position": stored["position"], "reason": "asked by the customer"}
    erasure = operator_event("self:live", "erasures", 1, "ledger.body.erased", content, now=clock.now)
    await services.appender.append([erasure])
    await services.notary.sign_all()
    await log.tamper(TAMPERS["take a body away"])
    report = await log.verify()
    assert (report.problems, report.erased) == ([], ["self:live: evt_9"])
