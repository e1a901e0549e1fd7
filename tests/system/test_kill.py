"""The service killed under load, and its PostgreSQL: what was acknowledged is there, once, in order, and provable."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from ledger.embedded import EmbeddedPostgres
from ledger.merkle import extend
from projections.contract import Subject
from projections.entitlements.tables import entitlements
from projections.folding import rows_of
from projections.reading import read_histories
from tests.stripe_events import event, subscription
from tests.system.running import Service, words_of

# A client whose server is killed in mid-request may leave its socket to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROUNDS = int(os.environ.get("KILL_ROUNDS", "8"))
POSTGRES_ROUNDS = int(os.environ.get("KILL_ROUNDS", "5"))
"""How often each is killed; ``python -m bench.kills`` asks for fifty."""

READS = ("/v1/events", "/v1/customers/cus_1/entitlements", "/readyz")

WRITERS = 6
STATUSES = ("incomplete", "active", "past_due", "unpaid", "trialing", "canceled")


class Load:
    """Writers that send webhooks, every tenth one twice, and remember what each was answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._secret = service.credentials["webhook_secret"]
        self.acknowledged: list[tuple[str, int]] = []
        self.statuses: Counter[int] = Counter()
        self.retry_after_missing = 0

    @contextmanager
    def running(self, round_: int) -> Iterator[None]:
        writers = [threading.Thread(target=self._write, args=(round_, n)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            yield
        finally:
            self._stop.set()
            for writer in writers:
                writer.join(30)
            self._stop.clear()

    def _write(self, round_: int, writer: int) -> None:
        rng = random.Random(f"{round_} {writer}")
        with httpx.Client() as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                content = _event(f"evt_{round_}_{writer}_{number}", rng)
                for _ in range(2 if number % 10 == 0 else 1):
                    self._send(client, content)

    def _send(self, client: httpx.Client, content: dict[str, Any]) -> None:
        try:
            answer = self._service.post(content, secret=self._secret, client=client)
        except httpx.TransportError:
            time.sleep(0.01)  # the service is dead, as it should be
            return
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            self.acknowledged.append((content["id"], answer.json()["position"]))
        elif answer.status_code == 503:
            self.retry_after_missing += "retry-after" not in answer.headers
            time.sleep(0.01)


def _event(event_id: str, rng: random.Random) -> dict[str, Any]:
    customer = rng.randrange(40)
    status = rng.choice(STATUSES)
    subject = subscription(
        f"sub_{customer}", customer=f"cus_{customer}", status=status, items=f"si_{customer}:prod_1*2"
    )
    return event(event_id, "customer.subscription.updated", subject, created=1_768_000_000 + rng.randrange(3600))


EVENTS = "SELECT event_id, position, leaf, stream_id FROM ledger.event WHERE book = 'self:live' ORDER BY position"


async def examine(embedded: EmbeddedPostgres, acknowledged: list[tuple[str, int]]) -> int:
    """Hold the database to what was acknowledged: every event once, no gap, rows as a fresh fold has them."""
    connection = await asyncpg.connect(embedded.url("postgres"))
    try:
        rows = await connection.fetch(EVENTS)
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
        places = {row["event_id"]: row["position"] for row in rows}
        assert len(places) == len(rows), "an event is stored twice"
        lost = [event_id for event_id, position in acknowledged if places.get(event_id) != position]
        assert not lost, f"{len(lost)} acknowledged events are not where they were said to be, such as {lost[0]}"
        head = await connection.fetchrow("SELECT position, frontier FROM ledger.head WHERE book = 'self:live'")
        assert head["position"] == len(rows)
        assert head["frontier"] == extend(0, b"", [row["leaf"] for row in rows])
        await _compare_projection(connection, sorted({row["stream_id"] for row in rows}), len(rows))
        return len(rows)
    finally:
        await connection.close()


async def _compare_projection(connection: asyncpg.Connection, streams: list[str], until: int) -> None:
    projection = entitlements("org_id")
    histories = await read_histories(connection, projection.types, streams, until)
    fresh = [
        (*row[:-1], list(row[-1]))
        for stream_id, facts in histories.items()
        for row in rows_of(projection, Subject("self:live", stream_id), facts)["entitlement_source"]
    ]
    kept = [tuple(row) for row in await connection.fetch("SELECT * FROM build_entitlements_1.entitlement_source")]
    assert sorted(kept, key=str) == sorted(fresh, key=str)


def signal_postmaster(service: Service, how: signal.Signals) -> None:
    server = service.embedded.postmaster()
    assert server is not None
    server.send_signal(how)


def _settle(service: Service) -> None:
    """Wait until the service answers and the follower has folded everything."""
    service.until(lambda: service.get("/readyz").status_code == 200, "the service to be ready")

    def caught_up() -> bool:
        answer = service.get("/v1/customers/cus_1/entitlements")
        if answer.status_code != 200:
            return False
        freshness = answer.json()["freshness"]
        return bool(freshness["position"] == freshness["head"] > 0)

    service.until(caught_up, "the follower to catch up")


@pytest.mark.timeout(1800)
def test_killed_again_and_again_under_load(service: Service) -> None:
    service.start()
    load = Load(service)
    rng = random.Random(20)
    for round_ in range(ROUNDS):
        before = len(load.acknowledged)
        with load.running(round_):
            service.until(lambda before=before: len(load.acknowledged) > before + 20, "webhooks to be taken")  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.2))
            service.kill()
        service.start()
    _settle(service)
    assert set(load.statuses) <= {200, 503}
    stored = asyncio.run(examine(service.embedded, load.acknowledged))
    assert stored >= len(set(load.acknowledged)) > 20 * ROUNDS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT], ids=["killed", "stopped at once"])
def test_postgresql_dies_under_load_and_comes_back(service: Service, how: signal.Signals) -> None:
    """SIGQUIT is what ``pg_ctl stop -m immediate`` sends: the server ends without a checkpoint."""
    service.start()
    load = Load(service)
    reads: set[int] = set()
    with load.running(0):
        for _ in range(POSTGRES_ROUNDS):
            before = len(load.acknowledged)
            service.until(lambda before=before: len(load.acknowledged) > before + 50, "webhooks to be taken")  # type: ignore[misc]
            signal_postmaster(service, how)
            refused = load.statuses[503]
            service.until(lambda refused=refused: load.statuses[503] > refused, "a webhook to be refused")  # type: ignore[misc]
            reads |= {service.get(path).status_code for path in READS for _ in range(5)}
        before = len(load.acknowledged)
        service.until(lambda: len(load.acknowledged) > before + 50, "webhooks to be taken again")
    assert set(load.statuses) == {200, 503}
    assert reads <= {200, 503}
    assert load.retry_after_missing == 0
    _settle(service)
    asyncio.run(examine(service.embedded, load.acknowledged))


@pytest.mark.parametrize("name", ["web", "follower"])
def test_a_killed_child_comes_back(service: Service, name: str) -> None:
    service.start()
    load = Load(service)
    with load.running(0):
        service.until(lambda: len(load.acknowledged) > 20, "webhooks to be taken")
        child = next(child for child in service.children() if name in words_of(child))
        child.kill()
        psutil.wait_procs([child], timeout=10)
        service.until(
            lambda: any(name in words_of(other) and other.pid != child.pid for other in service.children()),
            f"another {name}",
        )
        before = len(load.acknowledged)
        service.until(lambda: len(load.acknowledged) > before + 20, "webhooks to be taken again")
    _settle(service)
    asyncio.run(examine(service.embedded, load.acknowledged))


def test_a_rebuilding_worker_says_in_one_line_that_its_database_is_away(tmp_path: Path) -> None:
    """The command that started it says the rest: seen with PostgreSQL stopped at once in the middle of a rebuild."""
    for kind in ("fold", "rebuild"):
        with subprocess.Popen(
            (sys.executable, "-m", "api.processes", kind, "entitlements-1"),
            env={**os.environ, "LEDGER_DATA_DIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as worker:
            assert worker.stdout is not None
            said = worker.stdout.read().splitlines()
        assert (worker.returncode, len(said)) == (1, 1), said
        assert "worker_away" in said[0]
