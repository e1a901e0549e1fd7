"""The process of ``serve`` that asks Stripe: sweeps every ten minutes, and observes what events leave to be asked.

Of several services on one database one does it, under a lease.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from api.database import database_of
from api.outward.access import open_access
from api.outward.gather import Gathering
from api.outward.observer import Observer
from api.services import open_services
from api.settings import Settings
from ledger.errors import LedgerError
from ledger.postgres import AWAY
from ledger.tasks import end
from ledger.wakeup import Listener
from projections.leases import LEASE_SECONDS, give_back, take, this_process
from projections.runner import connect_runner

_log = structlog.get_logger()

SWEEP_SECONDS: Final = 600
LEASE: Final = "outward"

WEBHOOKS_FIRST: Final = timedelta(minutes=5)
"""What happened so recently is left to come by webhook."""

_POLL_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0

Work = Callable[[], Awaitable[None]]


async def run_outward(settings: Settings, stop: asyncio.Task[None]) -> None:
    """Work until ``stop`` is done."""
    working = asyncio.create_task(_work_for_ever(settings))
    await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
    await end(working)


async def _work_for_ever(settings: Settings) -> None:
    while True:
        try:
            await _while_leading(settings, lambda: _work(settings))
        except (LedgerError, *AWAY) as error:
            _log.warning("outward_away", error=error)
        except Exception:  # noqa: BLE001 - what is lost must not stay lost unnoticed
            _log.exception("outward_failed")
        await asyncio.sleep(_RETRY_SECONDS)


async def _while_leading(settings: Settings, work: Work) -> None:
    """Do the work for as long as the lease is ours; nothing while another service has it."""
    connection = await connect_runner(database_of(settings))
    holder = this_process()
    try:
        lease = await take(connection, LEASE, holder)
        if lease is None:
            return
        working = asyncio.ensure_future(work())
        try:
            while not working.done() and await take(connection, LEASE, holder) is not None:
                await asyncio.wait({working}, timeout=LEASE_SECONDS / 3)
            if working.done():
                working.result()
        finally:
            with contextlib.suppress(LedgerError, *AWAY):
                await end(working)
        await give_back(connection, lease)
    finally:
        connection.terminate()


async def _work(settings: Settings) -> None:
    async with open_services(settings) as services, open_access(settings, services.clock) as access:
        parts = (access, services.pool, services.appender, settings.account, services.clock)
        gathering, observer = Gathering(*parts), Observer(*parts)
        async with Listener(services.database.as_role("ledger_app")) as listener, asyncio.TaskGroup() as group:
            group.create_task(_on_a_timer(gathering))
            group.create_task(_on_news(observer, listener))


async def _on_a_timer(gathering: Gathering) -> None:
    while True:
        try:
            gathered = await gathering.sweep(leave=WEBHOOKS_FIRST)
        except LedgerError as error:
            _log.error("sweep_failed", error=error)
        else:
            for book, told in gathered.refused.items():
                _log.error("account_not_swept", book=book, error=told)
            for book, count in gathered.found.items():
                if count:
                    _log.warning("events_were_missing", book=book, count=count)
        await asyncio.sleep(SWEEP_SECONDS)


async def _on_news(observer: Observer, listener: Listener) -> None:
    while True:
        try:
            observed = await observer.work_off()
        except LedgerError as error:
            _log.error("observer_failed", error=error)
        else:
            if observed.answered or observed.given_up:
                _log.info("observed", answered=observed.answered, given_up=observed.given_up)
        await listener.wait(_POLL_SECONDS)
