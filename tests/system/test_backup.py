"""The rehearsal: back up, lose everything, restore, verify; and go on honestly when the backup was too old."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import orjson
import pytest

from api import backup
from api.settings import Settings
from api.tools import Tools
from ledger.embedded import SUPERUSER, EmbeddedPostgres
from ledger.errors import LedgerError, MistakeError
from ledger.migrate import migrate
from ledger.outside import CHECKPOINTS_FILE
from ledger.postgres import Database
from projections.builds import ensure_live
from projections.dunning.tables import DUNNING
from tests.stripe_events import event, product, subscription
from tests.system.running import PATH_WITHOUT_POSTGRES, Service


def buy(service: Service, first: int, last: int) -> None:
    service.post(event("evt_p", "product.created", product()))
    for n in range(first, last + 1):
        bought = subscription(f"sub_{n}", customer=f"cus_{n}", items=f"si_{n}:prod_1*{n}")
        assert service.post(event(f"evt_{n}", "customer.subscription.created", bought)).status_code == 200


def stream(service: Service, heard: int | None) -> tuple[int, str]:
    """Return where the stream of changes begins for who has heard so much, and whether it is told to forget."""
    headers = {"Authorization": f"Bearer {service.credentials['api_key']}"}
    headers |= {} if heard is None else {"Last-Event-ID": str(heard)}
    with httpx.stream("GET", f"{service.url}/v1/entitlements/stream", headers=headers, timeout=10) as answer:
        name = ""
        for line in answer.iter_lines():
            name = line.removeprefix("event: ") if line.startswith("event: ") else name
            if line.startswith("id: "):
                return int(line.removeprefix("id: ")), name
    raise AssertionError("the stream did not say where it begins")


def verified(service: Service) -> str:
    done = service.run("verify", "--full")
    return done.stdout if done.returncode == 0 else f"NOT TRUE {done.stdout}{done.stderr}"


def test_backup_loss_restore_verify(service: Service, tmp_path: Path) -> None:
    service.start()
    buy(service, 1, 20)
    service.until(lambda: stream(service, None)[0] > 0, "an answer to be said to have changed")
    assert service.run("log", "checkpoint").returncode == 0
    folder = tmp_path / "backup"
    assert service.run("backup", str(folder)).returncode == 0  # while it serves
    assert service.run("backup", str(folder)).returncode == 2  # never over another
    credentials = service.credentials
    assert service.stop() == 0

    shutil.rmtree(service.folder)
    service.folder.mkdir()
    restored = service.run("restore", str(folder))
    assert restored.returncode == 0, restored.stderr
    assert service.run("restore", str(folder)).returncode == 2  # only into an empty database
    assert verified(service).startswith("true: 24 events")
    service.start()
    assert service.credentials == credentials
    # What was not folded when the backup was made is folded now.
    answer = service.get("/v1/customers/cus_7/entitlements/seats", min_position="20", wait="10").json()
    assert (answer["granted"], answer["value"]) == (True, 7), str(answer)
    # Whatever a reader has heard, it may be what this history never said.
    for heard in (0, 1, 30, 1_000):
        assert stream(service, heard)[1] == "reset"
    assert stream(service, stream(service, None)[0])[1] == ""
    buy(service, 21, 21)
    assert service.run("log", "checkpoint").returncode == 0
    assert verified(service).startswith("true: 25 events")


def test_a_restore_that_was_stopped_goes_on(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.start()
    buy(service, 1, 3)
    folder = tmp_path / "backup"
    assert service.run("backup", str(folder)).returncode == 0
    credentials = service.credentials
    assert service.stop() == 0
    shutil.rmtree(service.folder)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    settings = Settings(data_dir=service.folder)
    for where, name in ((backup, "_restore"), (backup, "_finish"), (shutil, "copy2")):
        with monkeypatch.context() as until_it_is_there:
            until_it_is_there.setattr(where, name, stop)
            with pytest.raises(KeyboardInterrupt):
                backup.restore(settings, folder)
        for command in ("status", "serve"):
            refused = service.run(command)
            assert (refused.returncode, f"`ledger restore {folder}` goes on" in refused.stderr) == (2, True)
    backup.restore(settings, folder)
    with pytest.raises(MistakeError, match="only into an empty one"):
        backup.restore(settings, folder)
    assert verified(service).startswith("true: ")
    assert service.credentials == credentials


async def release_18(_: str) -> int:
    return 18


def test_what_is_signed_while_it_is_dumped_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = tmp_path / CHECKPOINTS_FILE
    signed.write_text("the head before\n\n")

    def dump(*_: object) -> None:
        signed.write_text("the head before\n\nthe head of events that came meanwhile\n\n")

    monkeypatch.setattr(Tools, "dump", dump)
    monkeypatch.setattr(backup, "_release", release_18)
    backup.backup(Settings(data_dir=tmp_path, database_url="postgresql://elsewhere"), tmp_path / "backup")
    assert (tmp_path / "backup" / CHECKPOINTS_FILE).read_text() == "the head before\n\n"


def test_a_backup_that_fails_leaves_no_keys_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "signing.key").write_text("a key\n")
    denied = "pg_dump: error: query failed: ERROR:  permission denied for schema build_1\npg_dump: detail: LOCK TABLE …"
    monkeypatch.setattr(EmbeddedPostgres, "program", lambda *_: ["sh", "-c", f"echo '{denied}' >&2; exit 1"])
    monkeypatch.setattr(backup, "_release", release_18)
    monkeypatch.setenv("PATH", PATH_WITHOUT_POSTGRES)
    settings = Settings(data_dir=tmp_path, database_url="postgresql://elsewhere")
    with pytest.raises(LedgerError, match=r"permission denied for schema build_1; LEDGER_OWNER_DATABASE_URL"):
        backup.backup(settings, tmp_path / "backup")
    assert [one.name for one in tmp_path.iterdir()] == ["signing.key"]


async def test_an_owner_who_is_no_superuser_backs_up_and_restores(
    server: EmbeddedPostgres, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside tables of somebody else's, which are none of a ledger's business."""
    login, names = f"{database_name}_keeper", [f"{database_name}_kept", f"{database_name}_again"]
    maintenance = await Database(server.url(SUPERUSER, "postgres")).connect()
    await maintenance.execute(f"CREATE ROLE {login} LOGIN")
    await maintenance.execute(f"GRANT ledger_owner, ledger_builder TO {login}")
    try:
        for name in names:
            await maintenance.execute(f"CREATE DATABASE {name} OWNER {login}")
        owner = await Database(server.url(login, names[0])).connect()
        await migrate(owner)
        await owner.execute("SET ROLE ledger_builder")
        await ensure_live(owner, DUNNING)
        await owner.close()
        other = await Database(server.url(SUPERUSER, names[0])).connect()
        await other.execute("CREATE TABLE public.secret (of text); REVOKE ALL ON public.secret FROM PUBLIC")
        await other.close()
        monkeypatch.setenv("PATH", PATH_WITHOUT_POSTGRES)
        places = [Settings(data_dir=tmp_path / name, database_url=server.url(login, name)) for name in names]
        await asyncio.to_thread(backup.backup, places[0], tmp_path / "backup")
        await asyncio.to_thread(backup.restore, places[1], tmp_path / "backup")
        restored = await Database(server.url(database=names[1])).as_role("ledger_builder").connect()
        assert await restored.fetchval("SELECT count(*) FROM ledger.dunning_cases") == 0
        await restored.close()
    finally:
        for name in names:
            await maintenance.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await maintenance.execute(f"DROP ROLE {login}")
        await maintenance.close()


def test_a_backup_that_lost_events_is_told_and_forked(service: Service, tmp_path: Path) -> None:
    service.start()
    buy(service, 1, 10)
    service.run("log", "checkpoint")
    folder = tmp_path / "backup"
    service.run("backup", str(folder))
    buy(service, 11, 15)
    service.run("log", "checkpoint")
    assert service.stop() == 0
    kept = {name: (service.folder / name).read_bytes() for name in ("checkpoints.log", "verifier-keys.txt")}

    shutil.rmtree(service.folder)
    service.folder.mkdir()
    for name, content in kept.items():
        (service.folder / name).write_bytes(content)  # the copy that was kept elsewhere
    assert service.run("restore", str(folder)).returncode == 0
    told = verified(service)
    assert told.startswith("NOT TRUE")
    assert "16 events were signed" in told
    refused = service.run("log", "checkpoint")
    assert (refused.returncode, "ledger log fork" in refused.stderr) == (1, True)

    forked = service.run("log", "fork", "--reason", "restored the backup of the morning")
    assert "self:live: positions 12 to 16 were lost" in forked.stdout, forked.stderr
    again = verified(service)
    assert again.splitlines()[-1].startswith("true: "), again
    assert "restored the backup of the morning" in again
    service.start()
    buy(service, 16, 18)
    service.run("log", "checkpoint")
    assert verified(service).splitlines()[-1].startswith("true: ")
    forks = orjson.loads(service.run("events", "--type", "ledger.log.forked", "--json").stdout)
    assert [fork["data"]["object"]["kept"] for fork in forks["data"]] == [11]
    assert service.run("log", "fork", "--reason", "again").returncode == 2

    archive = tmp_path / "archive.tar.gz"
    assert service.run("export", "events", "--with-proof", "-o", str(archive)).returncode == 0
    assert service.run("verify", "--archive", str(archive)).returncode == 0
