"""The sender of webhooks: a company's events, disordered and doubled, each sent until it is acknowledged."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import orjson

from ledger.simulator.company import Arguments, Company
from tests.projections.histories import disordered
from tests.stripe_events import event, signature

Json = dict[str, Any]

SENDERS: Final = 4
_ANSWER_SECONDS: Final = 4.0
_LOST: Final = 0.08
_FLOODING: Final = 160
_FLOOD_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class History:
    """What happened at a connected account, and what its webhooks will be: some are never sent."""

    account: str
    events: list[Json]
    deliveries: list[bytes]

    @property
    def book(self) -> str:
        return f"{self.account}:test"


def history_of(seed: int, now: datetime) -> History:
    """Make the history of a schedule: a small company's last weeks, as a connected account's in test mode."""
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=33)
    company = Company(Arguments(customers=6, months=1, seed=seed, start=int(start.timestamp())), keep_truth=False)
    account = f"acct_fault{seed}"
    events = [
        one | {"account": account, "livemode": False}
        for one in company.events()
        if one["livemode"] and "account" not in one
    ]
    dice = random.Random(f"lost {seed}")
    sent = [orjson.dumps(one) for one in events if dice.random() >= _LOST]
    return History(account, events, [body for batch in disordered(sent, seed) for body in batch])


@dataclass(slots=True)
class Storm:
    """Senders that work off deliveries over several ports, and remember what was acknowledged."""

    client: httpx.Client
    ports: Sequence[int]
    secret: str
    acknowledged: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    waiting: deque[bytes] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _busy: int = 0

    def send_over(
        self, deliveries: Sequence[bytes], seconds: float, stopped: Callable[[], bool]
    ) -> list[threading.Thread]:
        """Spread deliveries over so many seconds, then go on until all are acknowledged or ``stopped``."""
        self.waiting.extend(deliveries)
        pause = seconds * SENDERS / max(len(deliveries), 1)
        threads = [threading.Thread(target=self._work, args=(n, pause, stopped), daemon=True) for n in range(SENDERS)]
        for thread in threads:
            thread.start()
        return threads

    @property
    def done(self) -> bool:
        """Whether everything is acknowledged."""
        with self._lock:
            return not self.waiting and not self._busy

    def _work(self, number: int, pause: float, stopped: Callable[[], bool]) -> None:
        turn = number
        while not stopped():
            with self._lock:
                body = self.waiting.popleft() if self.waiting else None
                self._busy += body is not None
            if body is None:
                time.sleep(0.02)
                continue
            turn += 1
            taken = self.send(body, self.ports[turn % len(self.ports)])
            with self._lock:
                self._busy -= 1
                if not taken:
                    self.waiting.append(body)
            time.sleep(pause if taken else 0.05)

    def send(self, body: bytes, port: int) -> bool:
        """Send one webhook, signed now; tell whether it was acknowledged."""
        headers = signature(body, datetime.now(UTC), self.secret)
        try:
            answer = self.client.post(
                f"http://127.0.0.1:{port}/webhooks/stripe", content=body, headers=headers, timeout=_ANSWER_SECONDS
            )
        except httpx.TransportError:
            return False
        with self._lock:
            self._note(body, answer)
        return answer.status_code == 200

    def _note(self, body: bytes, answer: httpx.Response) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            content = orjson.loads(body)
            book = f"{content['account']}:test"
            self.acknowledged.setdefault((book, content["id"]), set()).add(answer.json()["position"])
        elif answer.status_code == 503:
            if "retry-after" not in answer.headers:
                self.wrong.append("a 503 without Retry-After")
        elif answer.status_code != 400 or "signature-time" not in answer.text:  # its clock was somewhere else
            self.wrong.append(f"{answer.status_code} {answer.text[:300]}")

    def flood(self, account: str, port: int) -> None:
        """Send copies of one great event, more at once than may wait to be written."""
        content = event("evt_flood", "customer.updated", {"id": "cus_flood", "object": "customer"}, live=False)
        body = orjson.dumps(content | {"account": account, "padding": "x" * _FLOOD_BYTES})
        threads = [threading.Thread(target=self.send, args=(body, port), daemon=True) for _ in range(_FLOODING)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
