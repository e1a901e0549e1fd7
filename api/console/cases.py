"""Failed payments: the board of cases, who needs a person, and one case told from its first failure to its outcome."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.responses import Response

from api.console.frame import Page, Part, Visit, render
from api.console.picks import given, in_order
from api.dunning import STATES
from projections.dunning.case import OVER
from projections.dunning.standing import NEEDS_A_PERSON

SCOPES: Final = ("dunning:read",)
TONES: Final = {state: "bad" if state in NEEDS_A_PERSON else "warn" for state in STATES} | {
    "recovered": "good", "forgiven": "plain", "voided": "plain", "written_off": "plain",
}  # fmt: skip
"""How a state is marked; its word stands there too."""

_LISTED: Final = 50

Json = dict[str, Any]


async def show(visit: Visit) -> Response:
    """Show how many cases are in each state, what needs a person, and the cases that are asked for."""
    currency = visit.query("currency").lower() or None
    filters = {name: given(visit, name) for name in ("state", "opened_from", "opened_to")}
    board, attention, cases = await asyncio.gather(
        visit.part("/v1/dunning/board"),
        visit.part("/v1/dunning/attention", currency=currency, cursor=given(visit, "attention_cursor"), limit=_LISTED),
        visit.part("/v1/dunning/cases", cursor=given(visit, "cursor"), limit=_LISTED, **filters)
        if any(filters.values())
        else _nothing(),
    )
    found: dict[str, Json] = board.content["currencies"] if board.shown else {}
    return render(
        visit,
        "dunning.html",
        board=board,
        currencies=in_order(found),
        found=found,
        heads=["State", *((head, "n") for one in in_order(found) for head in (f"{one.upper()} cases", "open"))],
        states=[state for state in STATES if any(state in one["states"] for one in found.values())],
        open_amounts={currency: _open(one) for currency, one in found.items()},
        all_states=STATES,
        tones=TONES,
        attention=attention,
        cases=cases,
        filters=filters,
    )


async def show_case(visit: Visit) -> Response:
    """Tell one case: what happened to it step by step, what it came to, and what its customer may use."""
    told = await visit.ask("/v1/dunning/cases/{invoice}", invoice=visit.path("invoice"))
    case = told["case"]
    access = await visit.part("/v1/customers/{customer}/entitlements", customer=case["customer"], include="all")
    granted: list[Json] = access.content["entitlements"] if access.shown else []
    own = [one for one in granted if case["subscription"] in [source["id"] for source in one["sources"]]]
    return render(
        visit,
        "case.html",
        case=case,
        found=Part(told),
        tones=TONES,
        access=access,
        follows=own or granted,
        is_own=bool(own),
    )


async def _nothing() -> Part:
    return Part(hidden=True)


def _open(one: Json) -> int:
    return sum(tally["open_amount"] for state, tally in one["states"].items() if state not in OVER)


PAGES = (
    Page("/dunning", show, SCOPES, nav="Dunning", sample="/dunning"),
    Page("/dunning/{invoice}", show_case, SCOPES),
)
