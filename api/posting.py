"""Posting deliveries to a webhook address, signed as Stripe signs, many at a time."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

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
    posted = Posted()
    loop = asyncio.get_running_loop()
    with closing(_Poster(_target(url), secret)) as poster:
        threads = ThreadPoolExecutor(concurrency)
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
            poster.stop()
            for future in waiting:
                future.cancel()
            # The threads end before their connections are closed, and the loop goes on meanwhile.
            await asyncio.to_thread(threads.shutdown)
    return posted


def _target(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        usable = target.scheme in {"http", "https"} and target.hostname and target.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise MistakeError(f"{url} is not an http address")
    return target


def _count(done: set[asyncio.Future[bool]], posted: Posted, progress: Callable[[int], None]) -> None:
    # Retrieve every error: the loop reports those that nobody retrieves.
    errors = [error for future in done if (error := future.exception()) is not None]
    received = [future.result() for future in done if future.exception() is None]
    posted.duplicates += sum(received)
    posted.received += len(received)
    progress(len(received))
    if errors:
        raise errors[0]


class _Poster:
    """Posts from several threads, each over a connection of its own that is kept open."""

    def __init__(self, target: SplitResult, secret: str) -> None:
        self._connect = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._secret = target.hostname or "", target.port, secret
        self._path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        self._local = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Begin no more requests: what waits to be sent again is given up."""
        self._stopped.set()

    def close(self) -> None:
        """Close every connection; call when no thread posts any more."""
        for connection in self._opened:
            connection.close()

    def post(self, body: bytes) -> bool:
        """Post one body, again where the service is busy; return whether it was a duplicate."""
        for attempt in stamina.retry_context(on=BusyError, attempts=_TRIES, wait_initial=0.1, wait_max=5.0):
            with attempt:
                return self._once(body)
        raise BusyError("the webhook stays busy")

    def _once(self, body: bytes) -> bool:
        if self._stopped.is_set():
            raise LedgerError("the posting was stopped")
        signature = WebhookSignature.generate_signature_header(body.decode(), self._secret, int(time.time()))
        headers = {"Content-Type": "application/json", "Stripe-Signature": signature}
        connection = self._connection()
        # Close a failed connection at once, so that the next delivery of this thread reconnects.
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except ConnectionRefusedError as error:
            connection.close()
            raise LedgerError(f"nobody listens on {self._host}:{self._port or 'its default port'}") from error
        except socket.gaierror as error:
            connection.close()
            raise LedgerError(f"there is no host {self._host}: {error.strerror}") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise BusyError(f"the connection broke: {error!r}") from error
        return _answer(response.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(self._host, self._port, timeout=_TIMEOUT_SECONDS)
            self._opened.append(connection)
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
