"""``ledger erase`` beside a running service, killed between its event and the overwriting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import orjson

from ledger.embedded import SUPERUSER
from tests.system.running import Service
from tests.system.test_backup import buy, verified

ERASE = ("erase", "evt_3", "--reason", "asked by the customer")


async def killed_before_it_overwrites(service: Service) -> None:
    """Hold up the overwriting, and kill the command when its event is written."""
    owner = await asyncpg.connect(service.embedded.url(SUPERUSER))
    async with owner.transaction():
        await owner.execute("LOCK TABLE ledger.event IN ROW EXCLUSIVE MODE")
        command = service.spawn(*ERASE)
        while not await owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            assert command.poll() is None
            await asyncio.sleep(0.02)
        command.kill()
        command.wait()
    await owner.close()


def test_an_event_is_erased_whatever_happens_meanwhile(service: Service, tmp_path: Path) -> None:
    service.start()
    buy(service, 1, 5)
    service.get("/v1/customers/cus_3/entitlements", min_position="6", wait="10")
    asyncio.run(killed_before_it_overwrites(service))
    assert "to erase  self:live: evt_3" in verified(service)
    assert service.get("/v1/customers/cus_3/entitlements/seats").json()["granted"]

    erased = service.run(*ERASE, "--json")
    assert erased.returncode == 0, erased.stderr
    assert "entitlements-1" in orjson.loads(erased.stdout)["folded_again"]
    assert service.run(*ERASE).returncode == 0
    told = verified(service)
    assert "erased    self:live: evt_3" in told
    assert told.splitlines()[-1].startswith("true: ")
    assert len(service.get("/v1/events", type="ledger.body.erased").json()["data"]) == 1
    refused = service.run("erase", "evt_1", "evt_none", "--reason", "asked by both")
    assert (refused.returncode, "has no event evt_none" in refused.stderr) == (2, True)
    assert service.get("/v1/customers/cus_1/entitlements/seats").json()["granted"]
    several = service.run("erase", "evt_1", "evt_2", "evt_1", "--reason", "asked by both", "--json")
    assert [one["event"] for one in orjson.loads(several.stdout)] == ["evt_1", "evt_2"], several.stderr
    assert not any(
        service.get(f"/v1/customers/{one}/entitlements/seats").json()["granted"] for one in ("cus_1", "cus_2")
    )
    assert verified(service).splitlines()[-1].startswith("true: ")
    assert not service.get("/v1/customers/cus_3/entitlements/seats").json()["granted"]
    assert service.get("/v1/customers/cus_4/entitlements/seats").json()["granted"]

    backup = tmp_path / "backup"
    assert service.run("backup", str(backup)).returncode == 0
    other = Service(tmp_path / "other")
    other.folder.mkdir()
    try:
        assert other.run("restore", str(backup)).returncode == 0
        assert "erased    self:live: evt_3" in verified(other)
        rebuilt = other.run("rebuild", "entitlements", "--promote-if-equal")
        assert rebuilt.stdout.splitlines()[-1] == "promoted: it is equal", rebuilt.stdout + rebuilt.stderr
    finally:
        other.close()
