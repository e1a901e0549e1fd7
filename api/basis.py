"""Whether a read of revenue answers what was sealed of closed months, or what is known of them now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from starlette.requests import Request

from api.problems import Problem
from ledger.times import rfc3339
from projections.periods.months import month_end, month_of
from projections.periods.query import Closed

Basis = Literal["sealed", "restated"]

_SECOND: Final = timedelta(seconds=1)


def wants_sealed(request: Request) -> bool:
    """Tell whether closed months are to be answered as they were sealed, which is so unless ``basis=restated``."""
    basis = request.query_params.get("basis", "sealed")
    if basis not in ("sealed", "restated"):
        raise Problem(400, "basis must be sealed or restated")
    return basis == "sealed"


def basis_json(*, is_sealed: bool) -> Basis:
    """Name what an answer rests on: sealed where any of it was."""
    return "sealed" if is_sealed else "restated"


def sealed_month(closed: Closed, at: datetime) -> str | None:
    """Return the closed month whose end a moment is; None where the moment's month is open.

    Raises 409 ``sealed`` for any other moment before the first open month: only the ends of months were reported.
    """
    if closed.until is None or at >= closed.until:
        return None
    month = month_of(at)
    if closed.of(month) is None:
        return None  # before the first month that had anything to close
    end = month_end(month)
    if at < end - _SECOND:
        detail = (
            f"{month} is closed: what was sealed of it is its end, {rfc3339(end - _SECOND)}; "
            "basis=restated answers what is known now of any moment"
        )
        raise Problem(409, detail, kind="sealed")
    return month
