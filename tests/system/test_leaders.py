"""Two services on one database: one leads, and another takes over from a leader that stands still, or is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

import orjson
import psutil
import pytest

from ledger.priority import NICENESS
from tests.stripe_events import event, subscription
from tests.system.running import Service, words_of
from tests.system.test_kill import examine

KILLS = int(os.environ.get("LEDGER_TEST_KILLS", "6"))


def follower_of(service: Service) -> psutil.Process:
    return next(child for child in service.children() if words_of(child)[-2:] == ["follower", "0"])


def tell(service: Service, start: int, count: int) -> list[tuple[str, int]]:
    """Send subscription changes of a few customers; return what was acknowledged, and where."""
    told = []
    for number in range(start, start + count):
        customer = number % 9
        subject = subscription(
            f"sub_{customer}", customer=f"cus_{customer}", items=f"si_{customer}:prod_1*{number + 1}"
        )
        content = event(f"evt_{number}", "customer.subscription.updated", subject, created=1_768_000_000 + number)
        answer = service.post(content)
        assert answer.status_code == 200
        told.append((content["id"], answer.json()["position"]))
    return told


def folded(service: Service, position: int) -> bool:
    answer = service.get("/v1/customers/cus_0/entitlements", min_position=str(position))
    return answer.status_code == 200


@pytest.mark.timeout(300)
def test_a_leader_that_stands_still_is_replaced_and_does_no_harm_when_it_wakes(service: Service, folder: Path) -> None:
    service.start()
    told = tell(service, 0, 30)
    service.until(lambda: folded(service, told[-1][1]), "the leader to fold")
    sleeper = follower_of(service)
    other = Service(folder)
    other.start()
    try:
        sleeper.send_signal(signal.SIGSTOP)
        told += tell(service, 30, 30)
        began = time.monotonic()
        service.until(lambda: folded(service, told[-1][1]), "another to take over", seconds=30)
        assert time.monotonic() - began < 15
        told += tell(service, 60, 10)
        sleeper.send_signal(signal.SIGCONT)
        told += tell(service, 70, 30)
        service.until(lambda: folded(service, told[-1][1]), "all to be folded")
        time.sleep(1)  # whatever the woken one still wants to do
        assert asyncio.run(examine(service.embedded, told)) == len(told)
    finally:
        other.close_client()
        other.stop()


@pytest.mark.timeout(600)
def test_a_rebuild_killed_again_and_again_ends_with_the_same_rows(service: Service, tmp_path: Path) -> None:
    """``kill -9`` of rebuild and follower at random points; every rebuild goes on, and comes to one digest."""
    dice = random.Random(4)
    service.start()
    events = tmp_path / "events.jsonl"
    made = service.run("simulate", "--customers", "60", "--months", "10", "-o", str(events))
    assert made.returncode == 0, made.stderr
    assert service.run("import", str(events)).returncode == 0
    digests = set()
    for _ in range(KILLS):
        process = service.spawn("rebuild", "entitlements", "--workers", "2")
        time.sleep(dice.uniform(0.3, 1.6))
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()
        for child in service.children():
            if "follower" in words_of(child):
                child.kill()
        done = service.run("rebuild", "entitlements", "--json")
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.partition('"digest": "')[2][:64])
    assert len(digests) == 1
    builds = service.run("diff", "entitlements", "entitlements-2", "--json")
    assert '"data": []' in builds.stdout, builds.stdout + builds.stderr
    assert service.run("parked").stdout.count("self:") == 0

    copy = tmp_path / "rows.jsonl"
    assert service.run("export", "rows", "--build", "entitlements-2", "-o", str(copy)).returncode == 0
    head, *rows = [orjson.loads(line) for line in copy.read_bytes().splitlines()]
    assert head["certificate"]["digest"] in digests
    assert {row["table"] for row in rows} >= {"entitlement_source", "entitlement_org", "product"}
    assert any(row["subject"].endswith("/prod_course") for row in rows if row["table"] == "product")
    again = service.run("export", "rows", "--build", "entitlements-2", "-o", str(copy))
    assert (again.returncode, "never overwrites" in again.stderr) == (2, True)
    assert service.run("export", "rows", "-o", str(tmp_path / "x")).returncode == 2
    assert service.run("drop", "entitlements", "entitlements-2").returncode == 0
    assert service.run("drop", "entitlements", "entitlements-1").returncode == 2


def test_a_rebuild_asked_for_over_http_is_folded_by_the_service(service: Service) -> None:
    service.start()
    told = tell(service, 0, 30)
    service.until(lambda: folded(service, told[-1][1]), "the leader to fold")
    nice = {
        kind: child.nice() for child in service.children() for kind in ("web", "follower") if kind in words_of(child)
    }
    assert nice["web"] < nice["follower"] or nice["web"] >= NICENESS, nice
    asked = service.send("POST", "/v1/projections/entitlements/rebuilds", {"reason": "to see it done"})
    assert asked.status_code == 202, asked.text
    path = "/v1/projections/entitlements/builds/entitlements-2"
    # Whoever folds it may die, as anybody may; the next one goes on.
    service.until(lambda: any("rebuilder" in words_of(child) for child in service.children()), "a process to fold it")
    assert all(os.getsid(child.pid) == child.pid for child in service.children()), "sessions that cannot give way"
    for child in service.children():
        if "rebuilder" in words_of(child):
            child.kill()
    service.until(lambda: bool(service.get(path).json()["digest"]), "the build to be certified")
    assert service.get(path).json()["phase"] == "ready"
    assert service.get(f"{path}/diff").json()["data"] == []
    promoted = service.send("POST", f"{path}/promote", {"reason": "it is equal"})
    assert promoted.status_code == 200, promoted.text
    told += tell(service, 30, 10)
    service.until(lambda: folded(service, told[-1][1]), "the promoted build to be followed")
    answer = service.get("/v1/customers/cus_0/entitlements").json()
    assert answer["freshness"]["build"] == "entitlements-2"
