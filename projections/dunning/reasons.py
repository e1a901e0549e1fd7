"""Why a payment of an invoice failed: each of its failed attempts with the declined payment that belongs to it (§4.3).

An invoice's failure carries no decline code, and since 2025 a failed payment names no invoice. So a payment is joined
by what it names itself or an invoice payment says (``exact``), by what was asked of Stripe (``observed``), or, last, by
customer, currency, amount and time (``heuristic``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from projections.dunning.declines import DeclineClass, class_of
from projections.dunning.facts import Bill, Declined, Snapshot, State

Confidence = Literal["exact", "observed", "heuristic"]

TOGETHER: Final = timedelta(seconds=10)
"""How far apart a failed payment and its invoice's failure may be told."""

FAILED_ACTION: Final = "payment_intent_authentication_failure"
"""What a payment ends with whose customer was asked to do something, and did not or could not."""


class Attempt(NamedTuple):
    """A failed attempt to collect an invoice, as far as events tell: when it was told of, and why it failed.

    ``signal`` is false where only the payment was told of, and its invoice's failure was not.
    """

    at: datetime
    event: str
    signal: bool
    declined: Declined | None
    kind: DeclineClass
    confidence: Confidence | None

    @property
    def was_made(self) -> bool:
        """Whether something was charged: there was a method, and no earlier attempt ended so."""
        failed_action = self.declined is not None and self.declined.failure.code == FAILED_ACTION
        return self.kind != "no_method" and not failed_action


def attempts_of(state: State) -> dict[str, list[Attempt]]:
    """Return every invoice's failed attempts, in order of time."""
    told = {bill.id: [one for one in bill.snapshots if one.told == "payment_failed"] for bill in state.bills.values()}
    joined = _joined(state, told)
    return {
        bill.id: sorted(
            [*_told(state, told[bill.id], joined), *_untold(state, bill, joined)], key=lambda one: (one.at, one.event)
        )
        for bill in state.bills.values()
    }


def _told(state: State, signals: Iterable[Snapshot], joined: dict[str, Declined]) -> Iterator[Attempt]:
    for signal in signals:
        declined = joined.get(signal.event)
        if declined is None:
            kind: DeclineClass = "no_method" if _nothing_to_charge(state, signal.at) else "unknown"
            yield Attempt(signal.at, signal.event, True, None, kind, None)
        else:
            yield Attempt(
                signal.at, signal.event, True, declined, class_of(declined.failure), _confidence(state, declined)
            )


def _untold(state: State, bill: Bill, joined: dict[str, Declined]) -> Iterator[Attempt]:
    """Give the payments of an invoice whose failure only the payments themselves tell."""
    used = {declined.key for declined in joined.values()}
    for declined in state.declined.values():
        if declined.key not in used and _invoice_of(state, declined) == bill.id:
            kind, confidence = class_of(declined.failure), _confidence(state, declined)
            yield Attempt(declined.at, declined.event, False, declined, kind, confidence)


def _joined(state: State, told: dict[str, list[Snapshot]]) -> dict[str, Declined]:
    """Match failures of invoices with failed payments, each once: what is known first, then what is nearest."""
    pairs = [
        (invoice is None, abs(signal.at - declined.at), declined.at, declined.key, signal.event, declined)
        for declined in state.declined.values()
        for invoice in [_invoice_of(state, declined)]
        for bill in ([invoice] if invoice is not None else told)
        for signal in told.get(bill, ())
        if abs(signal.at - declined.at) <= TOGETHER
        and (invoice is not None or _looks_alike(state.bills[bill], signal, declined))
    ]
    joined: dict[str, Declined] = {}
    used: set[str] = set()
    for *_, key, signal, declined in sorted(pairs, key=lambda pair: pair[:-1]):
        if signal not in joined and key not in used:
            joined[signal] = declined
            used.add(key)
    return joined


def _looks_alike(bill: Bill, signal: Snapshot, declined: Declined) -> bool:
    return declined.currency == bill.currency and declined.amount == signal.amount_remaining


def _link_of(state: State, declined: Declined) -> tuple[str, str] | None:
    if declined.invoice is not None:
        return (declined.invoice, "exact")
    return state.links.get(declined.intent or "") or state.links.get(declined.charge or "")


def _invoice_of(state: State, declined: Declined) -> str | None:
    link = _link_of(state, declined)
    return None if link is None else link[0]


def _confidence(state: State, declined: Declined) -> Confidence:
    link = _link_of(state, declined)
    if link is None:
        return "heuristic"
    return "exact" if link[1] == "exact" else "observed"


def _nothing_to_charge(state: State, at: datetime) -> bool:
    """Tell whether the customer is known to have had no default method, for themselves or any subscription."""
    known = [has for since, has in state.methods if since <= at]
    return bool(known) and not known[-1]
