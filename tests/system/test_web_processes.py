"""Several web processes behind one port: whichever answers, the answer is that of the service."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.stripe_events import event, subscription
from tests.system.running import Service, words_of

APPENDED = 'ledger_webhooks_total{outcome="appended"}'
READERS = "ledger_stream_readers"


@pytest.fixture(autouse=True)
def two(service: Service) -> None:
    service.environment["LEDGER_WEB_PROCESSES"] = "2"


def web_processes(service: Service) -> list[psutil.Process]:
    return [child for child in service.children() if "web" in words_of(child)]


def counted(service: Service, name: str) -> float:
    """Read a metric over a connection of its own, so that any of the processes may be the one that answers."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{service.url}/metrics", timeout=30).text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def send(service: Service, first: int, last: int) -> list[int]:
    """Send so many webhooks over eight connections at once; return their positions."""
    with httpx.Client() as client, ThreadPoolExecutor(8) as senders:

        def one(number: int) -> int:
            customer = f"cus_{number % 8}"
            content = event(f"evt_{number}", "customer.subscription.updated", subscription(customer=customer))
            answer = service.post(content, client=client)
            assert answer.status_code == 200, answer.text
            position: int = answer.json()["position"]
            return position

        return list(senders.map(one, range(first, last)))


def test_they_share_one_order_and_answer_for_one_another(service: Service) -> None:
    service.start()
    assert len(web_processes(service)) == 2
    positions = send(service, 0, 120)
    assert sorted(positions) == list(range(1, 121))
    assert {counted(service, APPENDED) for _ in range(20)} == {120}
    key = {"Authorization": f"Bearer {service.credentials['api_key']}"}
    with httpx.stream("GET", f"{service.url}/v1/entitlements/stream", headers=key, timeout=30):
        service.until(lambda: {counted(service, READERS) for _ in range(10)} == {1}, "all to count the reader")
        # They die: others come, what the dead ones have counted still counts, and whom they served is not there.
        dead = {one.pid for one in web_processes(service)}
        web_processes(service)[0].kill()
        assert sorted(send(service, 120, 160)) == list(range(121, 161))
        for one in web_processes(service):
            if one.pid in dead:
                one.kill()
        service.until(lambda: len({one.pid for one in web_processes(service)} - dead) == 2, "others to come")
        service.until(lambda: {counted(service, READERS) for _ in range(10)} == {0}, "nobody to count the reader")
    assert {counted(service, APPENDED) for _ in range(20)} == {160}
