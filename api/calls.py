"""Requests under an ``Idempotency-Key``: a retry gets the same answer, and nothing is done twice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import idempotency_key_of, services
from api.problems import JSONResponse
from api.secrets import ApiKey
from api.services import Services
from ledger.books import CONTROL_BOOK
from ledger.calls import Call, KeyedCall, call_name
from ledger.decisions import decide, restore
from ledger.errors import KeyUsedError

# Never committed: inserting the same name waits for the end of the transaction that did so before. A row, because an
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
    act: Callable[[KeyedCall | None], Awaitable[Answer]],
    catch_up: Callable[[], Awaitable[None]] | None = None,
) -> Response:
    """Do what is asked for and answer with the result; under the same Idempotency-Key it is done only once.

    A retry that comes meanwhile waits for the first request. A refused request did nothing, so its retry is tried
    again. ``act`` gets the call (None without a key), so that it can append the answer with what it does, and a process
    that is killed leaves either both or neither; an answer it did not append is appended afterwards. ``catch_up``
    records what a killed process left unrecorded. Raises ``KeyUsedError`` if the key was used with something else
    ``wanted``.
    """
    idempotency_key = idempotency_key_of(request)
    if idempotency_key is None:
        return JSONResponse(await act(None))
    serving = services(request)
    name = call_name(what, key.name, idempotency_key)
    async with one_at_a_time(serving, name) as connection:
        if catch_up is not None:
            await catch_up()
        before = await restore(connection, Call, CONTROL_BOOK, name)
        if before.answered is not None and before.wanted != wanted:
            raise KeyUsedError(what)
        if before.answered is not None:
            return JSONResponse(before.answered)
        answer = await act(KeyedCall(name, wanted))
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
    """Wait until no process works under this name; yields a connection of its own."""
    connection = await serving.database.as_role("ledger_builder").connect()  # none of those that the act may need
    turn = connection.transaction()
    try:
        await turn.start()
        await connection.execute(ONE_AT_A_TIME, name)
        yield connection
        await turn.rollback()
    finally:
        connection.terminate()
