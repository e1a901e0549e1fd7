"""The databases of tests: who only reads leaves a copy to the next, and who writes gets one that nobody wrote to."""

from __future__ import annotations

import asyncpg
import pytest

from ledger.embedded import SUPERUSER, EmbeddedPostgres
from tests.conftest import Copies

WRITING = (
    "CREATE TABLE public.left_behind ()",
    "ALTER DATABASE {} CONNECTION LIMIT 1",
    "COMMENT ON TABLE ledger.head IS 'seen'",
)


async def asked(server: EmbeddedPostgres, name: str, statement: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(server.url(SUPERUSER, name))
    await connection.execute(statement)
    return connection


@pytest.mark.asyncio(loop_scope="session")
async def test_an_untouched_copy_is_lent_again_though_somebody_stayed(copies: Copies, server: EmbeddedPostgres) -> None:
    async with copies.lent() as first:
        left = await asked(server, first, "SELECT * FROM ledger.head")
    async with copies.lent() as second:
        assert second == first
    left.terminate()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("statement", WRITING)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "SELECT 1"])
async def test_a_copy_somebody_wrote_to_is_not(
    copies: Copies, server: EmbeddedPostgres, statement: str, end: str
) -> None:
    async with copies.lent() as first:
        connection = await asked(server, first, "BEGIN")
        await connection.execute(statement.format(first))
        await connection.execute(end)
    async with copies.lent() as second:
        assert second != first
    connection.terminate()
