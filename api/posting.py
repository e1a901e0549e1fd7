"""Posting deliveries to a webhook address, signed as Stripe signs, many at a time."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import orjson
import stamina
from stripe import WebhookSignature

from ledger.errors import LedgerError, MistakeError
from ledger.simulator.faults import Delivery

_TIMEOUT_SECONDS: Final = 30
_TRIES: Final = 8


class RefusedError(MistakeError):
    """The address answered that a delivery is wrong; the rest were not sent."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the webhook answers {status}: {detail}")
        self.status = status


class BusyError(LedgerError):
    """The address cannot take deliveries now; sending again later may help."""


@dataclass(slots=True)
class Posted:
    """How many deliveries were received, and how many of them the ledger had already."""

    received: int = 0
    duplicates: int = 0


async def post_all(
    deliveries: Iterator[Delivery],
    url: str,
    secret: str,
    *,
    concurrency: int = 64,
    progress: Callable[[int], None] = lambda _: None,
) -> Posted:
    """Post every delivery, starting them in their order. Raises ``RefusedError``, ``BusyError`` or ``LedgerError``."""
    target = urlsplit(url)
    if target.scheme not in {"http", "https"} or not target.hostname:
        raise MistakeError(f"{url} is no http address")
    poster = _Poster(target.scheme, target.hostname, target.port, target.path or "/", secret)
    posted = Posted()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(concurrency) as threads:
        waiting: set[asyncio.Future[bool]] = set()
        try:
            for delivery in deliveries:
                waiting.add(loop.run_in_executor(threads, poster.post, delivery.body))
                if len(waiting) >= concurrency:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    _count(done, posted, progress)
            while waiting:
                done, waiting = await asyncio.wait(waiting)
                _count(done, posted, progress)
        finally:
            for future in waiting:
                future.cancel()
    return posted


def _count(done: set[asyncio.Future[bool]], posted: Posted, progress: Callable[[int], None]) -> None:
    for future in done:
        posted.duplicates += future.result()
        posted.received += 1
    progress(len(done))


class _Poster:
    """Posts from several threads, each over a connection of its own that is kept open."""

    def __init__(self, scheme: str, host: str, port: int | None, path: str, secret: str) -> None:
        self._connect = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path, self._secret = host, port, path, secret
        self._local = threading.local()

    def post(self, body: bytes) -> bool:
        """Post one body, again where the service is busy; return whether it was a duplicate."""
        for attempt in stamina.retry_context(on=BusyError, attempts=_TRIES, wait_initial=0.1, wait_max=5.0):
            with attempt:
                return self._once(body)
        raise BusyError("the webhook stays busy")

    def _once(self, body: bytes) -> bool:
        signature = WebhookSignature.generate_signature_header(body.decode(), self._secret, int(time.time()))
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
        connection = self._connection()
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except ConnectionRefusedError as error:
            raise LedgerError(f"nobody listens on {self._host}:{self._port or 'its default port'}") from error
        except (OSError, http.client.HTTPException) as error:
            self._local.connection = None
            raise BusyError(f"the connection broke: {error!r}") from error
        return _answer(response.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        return connection


def _answer(status: int, content: bytes) -> bool:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        parsed = {}
    parsed = parsed if isinstance(parsed, dict) else {}
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return bool(parsed.get("duplicate"))
    detail = str(parsed.get("detail") or parsed.get("title") or content[:200].decode(errors="replace"))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise BusyError(f"the webhook answers {status}: {detail}")
    raise RefusedError(status, detail)
