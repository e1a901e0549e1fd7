"""Requests that are sent again under their ``Idempotency-Key``: answered as they were, and done once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import called_by, services
from api.problems import JSONResponse
from api.secrets import ApiKey
from api.services import Services
from ledger.books import CONTROL_BOOK
from ledger.calls import Call, Called
from ledger.decisions import decide, restore
from ledger.errors import KeyUsedError

# Never committed: whoever inserts the same name waits for the end of the transaction that did before. A row, since an
# advisory lock holds on one node of a cluster only.
ONE_AT_A_TIME: Final = """
INSERT INTO ledger.lease (name, holder, term, expires_at)
VALUES ($1, '', 0, '-infinity')
"""

Answer = Mapping[str, Any]


async def once(
    request: Request,
    key: ApiKey,
    what: str,
    wanted: Mapping[str, Any],
    act: Callable[[Called | None], Awaitable[Answer]],
    catch_up: Callable[[], Awaitable[None]] | None = None,
) -> Response:
    """Do what is asked for and answer with it; what was done under the same Idempotency-Key is not done again.

    Whoever sends it again meanwhile waits for the first. What was refused was not done: sent again, it is tried again.
    ``act`` is told what the request is called, to note its answer with what it does: so that nobody who is killed
    leaves one without the other. What it has not noted is noted then. ``catch_up`` notes what was left over by somebody
    who was killed. Raises ``KeyUsedError`` where another ``what``, with something else ``wanted``, was called so.
    """
    called = called_by(request)
    if called is None:
        return JSONResponse(await act(None))
    serving = services(request)
    name = f"{what}-{hashlib.sha256(f'{key.name} {called}'.encode()).hexdigest()[:24]}"
    async with one_at_a_time(serving, name) as connection:
        if catch_up is not None:
            await catch_up()
        before = await restore(connection, Call, CONTROL_BOOK, name)
        if before.answered is not None and before.wanted != wanted:
            raise KeyUsedError(what)
        if before.answered is not None:
            return JSONResponse(before.answered)
        answer = await act(Called(name, wanted))
        await decide(
            connection,
            serving.appender,
            Call,
            CONTROL_BOOK,
            name,
            lambda call: call.answer(wanted, answer) if call.answered is None else None,
            now=serving.clock(),
        )
        return JSONResponse(answer)


@contextlib.asynccontextmanager
async def one_at_a_time(serving: Services, name: str) -> AsyncIterator[asyncpg.Connection]:
    """Wait until nobody else, in any process, is at what is called so; gives a connection of its own."""
    connection = await serving.database.as_role("ledger_builder").connect()  # none of those that the act may need
    turn = connection.transaction()
    try:
        await turn.start()
        await connection.execute(ONE_AT_A_TIME, name)
        yield connection
        await turn.rollback()
    finally:
        connection.terminate()
