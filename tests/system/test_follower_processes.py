"""Several processes that fold: each keeps its projections, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import psutil

from api.processes import share_of
from api.services import projections_of
from api.settings import Settings
from ledger.embedded import SUPERUSER
from tests.stripe_events import event, subscription
from tests.system.running import Service, words_of

LEADERS = """
SELECT b.projection, split_part(l.holder, '/', 2)::int AS pid
FROM ledger.lease AS l
JOIN ledger.build AS b ON b.build_id = l.name
WHERE l.expires_at > now()
"""


def followers(service: Service) -> dict[int, psutil.Process]:
    """Return the processes that fold, by their place."""
    found = ((child, words_of(child)) for child in service.children())
    return {int(words[-1]): child for child, words in found if words[-2:-1] == ["follower"]}


def leaders(service: Service) -> dict[str, int]:
    """Return who leads the live build of each projection."""

    async def read() -> dict[str, int]:
        connection = await asyncpg.connect(service.embedded.url(SUPERUSER))
        try:
            return {row["projection"]: row["pid"] for row in await connection.fetch(LEADERS)}
        finally:
            await connection.close()

    return asyncio.run(read())


def send(service: Service, first: int, last: int) -> int:
    """Send changes of some subscriptions; return the position of the last."""
    position = 0
    for number in range(first, last):
        content = event(f"evt_{number}", "customer.subscription.updated", subscription(customer=f"cus_{number % 5}"))
        answer = service.post(content)
        assert answer.status_code == 200, answer.text
        position = answer.json()["position"]
    return position


def behind(service: Service, position: int) -> set[str]:
    """Return the projections that have not come so far yet."""
    told = service.get("/v1/projections").json()["data"]
    return {one["name"] for one in told if not any(place["position"] >= position for place in one["books"])}


def test_every_projection_falls_to_one_of_any_number_of_processes() -> None:
    projections = projections_of(Settings())
    most = Settings.model_fields["follower_processes"].metadata
    assert [one.le for one in most if hasattr(one, "le")] == [len(projections)]
    for processes in range(1, len(projections) + 1):
        shares = [share_of(projections, place, processes) for place in range(processes)]
        assert [one for share in shares for one in share] == list(projections)
        assert all(shares)


def test_each_folds_its_own_and_none_waits_for_another(service: Service) -> None:
    service.start()
    position = send(service, 0, 20)
    service.until(lambda: not behind(service, position), "all to be folded")
    first, second = followers(service)[0], followers(service)[1]
    mine = {"entitlements": first.pid, "dunning": second.pid, "revenue": second.pid, "periods": second.pid}
    assert leaders(service) == mine

    second.suspend()
    position = send(service, 20, 30)
    service.until(lambda: "entitlements" not in behind(service, position), "entitlements to go on", seconds=10)
    assert behind(service, position) == {"dunning", "revenue", "periods"}
    second.kill()
    service.until(lambda: not behind(service, position), "another to fold the rest")
    assert followers(service)[0] == first
    assert leaders(service)["entitlements"] == first.pid
    assert leaders(service)["revenue"] == followers(service)[1].pid

    asked = service.send("POST", "/v1/projections/dunning/rebuilds", {"reason": "the second's own"})
    assert asked.status_code == 202, asked.text
    path = "/v1/projections/dunning/builds/dunning-2"
    service.until(lambda: service.get(path).json()["phase"] == "ready", "it to be folded")
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 10
