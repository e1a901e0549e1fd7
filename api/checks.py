"""``/v1/checks``: what an engineer on call looks at, each with what was found and what to do if it fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from starlette.requests import Request
from starlette.responses import Response

from api.access import require, services
from api.doctor import Check, database_checks
from api.health import readyz
from api.outward import wanted
from api.outward.alarms import LAST_WEBHOOK, overdue, unknown_purchases, usual_silence
from api.outward.coverage import HOUR, KEPT, covered_books, first_hour, hour_of, read_hours
from api.problems import JSONResponse, Problem
from api.reads import page_through
from api.services import Services, projections_of
from ledger.postgres import AWAY
from projections.builds import enter_build, list_builds

LATE_AFTER: Final = timedelta(seconds=60)
"""A live build further behind the log than this is late."""

UNSIGNED_AFTER: Final = timedelta(minutes=10)
"""A head is signed once a minute; one that waits longer than this is not being signed."""

SIGNED: Final = """
SELECT h.book, h.position AS head, h.recorded_at, coalesce(max(c.position), 0) AS signed
FROM ledger.head AS h
LEFT JOIN ledger.log_checkpoint AS c ON c.book = h.book
WHERE h.position > 0
GROUP BY h.book, h.position, h.recorded_at
ORDER BY h.book
"""

PROBLEMS: Final = "SELECT kind, count(*) AS count FROM revenue_problem WHERE book = $1 GROUP BY kind ORDER BY kind"

_DATABASE_TODO: Final = "run `ledger doctor` on the machine, and fix the settings or grants it names"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, where it belongs, and what to do when it fails; ``waived`` says why it cannot be made here."""

    area: str
    check: Check
    todo: str
    waived: bool = False


async def list_checks(request: Request) -> Response:
    """Run all checks; the answer is 200 even if some fail, and says which."""
    require(request, "admin")
    found = [await _readiness(request), *await examine_service(services(request))]
    data = [
        {
            "area": one.area,
            "name": one.check.name,
            "state": "waived" if one.waived else "ok" if one.check.ok else "failed",
            "value": one.check.value,
            "how": one.check.how,
            "todo": one.todo,
        }
        for one in found
    ]
    failed = sum(one["state"] == "failed" for one in data)
    page, cursor = page_through(request, list(enumerate(data)), lambda one: one[:1], int)
    content = {"ok": failed == 0, "failed": failed, "data": [one for _, one in page], "next_cursor": cursor}
    return JSONResponse(content)


async def _readiness(request: Request) -> Finding:
    """Ask what ``/readyz`` asks, of the same function."""
    why = None
    try:
        await readyz(request)
    except (Problem, *AWAY) as error:
        why = str(error)
    check = Check("ready", ok=why is None, value=why or "ready", how="`/readyz` answers 200")
    return Finding("service", check, "fix what it names: a load balancer sends no traffic here until then")


async def examine_service(serving: Services) -> list[Finding]:
    """Check the database, the projections, the books, and what the log may lack."""
    now = serving.clock()
    try:
        async with serving.pool.acquire() as connection:
            found = [Finding("database", one, _DATABASE_TODO) for one in await database_checks(connection)]
            if not all(one.check.ok for one in found if one.check.name == "schema"):
                return found
            found += await _projections(connection, serving, now)
            found += await _signatures(connection, now)
            found += await _coverage(connection, serving, now)
            found += await _observations(connection)
        async with serving.pool.acquire() as connection, connection.transaction(readonly=True):
            found += await _books(connection, serving, now)
    except AWAY as error:
        return [Finding("database", Check("database", ok=False, value=str(error), how="it answers"), _DATABASE_TODO)]
    return found


async def _projections(connection: asyncpg.Connection, serving: Services, now: datetime) -> list[Finding]:
    rows = await list_builds(connection)
    declared = {one.name: one.version for one in projections_of(serving.settings)}
    found = []
    for name, version in declared.items():
        own = [row for row in rows if row["projection"] == name]
        lags = [now - row["waiting_since"] for row in own if row["waiting_since"]]
        behind = max([*lags, timedelta()])
        if not own:
            value, ok = "no build is live", False
        elif own[0]["version"] != version:
            value, ok = f"{own[0]['build_id']} is of version {own[0]['version']}, this release folds {version}", False
        else:
            value, ok = f"{own[0]['build_id']} is {int(behind.total_seconds())} s behind the log", behind <= LATE_AFTER
        todo = f"see that `ledger serve` runs its follower; a build of another version wants a rebuild of {name}"
        found.append(Finding("projections", Check(f"{name} follows", ok=ok, value=value, how="within a minute"), todo))
        parked = own[0]["parked"] if own else 0
        found.append(
            Finding(
                "projections",
                Check(
                    f"{name} parks nobody", ok=parked == 0, value=f"{parked} subjects", how="every subject is folded"
                ),
                "look at the event and the error of each, fix the cause, then replay it",
            )
        )
    return found


async def _signatures(connection: asyncpg.Connection, now: datetime) -> list[Finding]:
    found = []
    for row in await connection.fetch(SIGNED):
        behind = row["head"] - row["signed"]
        late = behind > 0 and now - row["recorded_at"] > UNSIGNED_AFTER
        value = f"signed up to {row['signed']:,} of {row['head']:,}"
        check = Check(f"{row['book']} is signed", ok=not late, value=value, how="the head is signed once a minute")
        found.append(Finding("log", check, "run `ledger log checkpoint`, which says what prevents it"))
    return found


async def _coverage(connection: asyncpg.Connection, serving: Services, now: datetime) -> list[Finding]:
    found = []
    asks = serving.settings.stripe_api_key is not None
    for book in await covered_books(connection):
        begin = max(await first_hour(connection, book) or now, hour_of(now - KEPT) + HOUR)
        hours = await read_hours(connection, book, hour_of(begin), hour_of(now))
        late = len(overdue(hours, now))
        value = f"{late} of {len(hours)} hours are not proven complete"
        if not asks:
            value = "nothing can be proven: LEDGER_STRIPE_API_KEY is not set"
        check = Check(f"{book} lost nothing", ok=late == 0, value=value, how="every hour older than two was swept")
        todo = "run `ledger sweep`; hours older than 30 days stay unproven" if asks else "set a restricted key"
        found.append(Finding("log", check, todo, waived=not asks))
        last = await connection.fetchval(LAST_WEBHOOK, book)
        if last is not None:
            quiet = now - last > usual_silence(hours, last)
            check = Check(
                f"{book} hears from Stripe",
                ok=not quiet,
                value=f"the last webhook came {last:%Y-%m-%d %H:%M} UTC",
                how="not silent for twice as long as usual",
            )
            found.append(Finding("log", check, "look at the endpoint in Stripe's dashboard, then run `ledger sweep`"))
    return found


async def _observations(connection: asyncpg.Connection) -> list[Finding]:
    counts = await wanted.counts(connection)
    given_up = sum(count for (_, state), count in counts.items() if state == "given_up")
    waiting = sum(count for (_, state), count in counts.items() if state == "open")
    check = Check(
        "observations answered",
        ok=given_up == 0,
        value=f"{given_up} given up, {waiting} waiting",
        how="what events left out was asked of Stripe",
    )
    return [Finding("log", check, "`GET /v1/observations?state=given_up` says why; then `ledger observe --retry`")]


async def _books(connection: asyncpg.Connection, serving: Services, now: datetime) -> list[Finding]:
    found = []
    for book in await covered_books(connection):
        unknown = await unknown_purchases(connection, book, now)
        value = f"{unknown} purchases of unknown content"
        check = Check(
            f"{book} knows what it sold", ok=unknown == 0, value=value, how="what was paid for is known within a minute"
        )
        todo = "write `ledger_product` into the metadata of sessions, or set a restricted key and see `ledger observe`"
        found.append(Finding("books", check, todo))
        if (await enter_build(connection, serving.revenue.name, book)).build is None:
            continue
        kinds = {row["kind"]: row["count"] for row in await connection.fetch(PROBLEMS, book)}
        value = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.items()) or "nothing"
        check = Check(f"{book} adds up", ok=not kinds, value=value, how="no entry is left unexplained")
        found.append(Finding("books", check, "look at `GET /v1/revenue/problems`; each names its events"))
    return found
