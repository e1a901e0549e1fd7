"""The truth of money: every bill with all that happened to it, and the entries that are of no bill.

Answered by doing everything again up to the moment that is asked for; nothing is carried along.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.simulator.objects import CreditNote, Invoice, Line
from ledger.simulator.truth_replay import Amounts, Replay, Row

_CONTRA: Final = ("refunds", "disputes", "credit_notes", "voids")
_EMPTY: Final = Replay()


@dataclass(slots=True)
class Bill:
    """A finalised invoice or a purchase: its facts in the order they happened."""

    id: str
    currency: str
    rows: list[Row]
    made: int
    first: int
    held: bool
    last: int
    facts: list[tuple[int, str, tuple[Any, ...]]] = field(default_factory=list)
    settled: Replay | None = None

    def replayed(self, moment: int, *, whole: bool) -> Replay:
        """Do everything again up to a moment; ``whole``: with what happened in its very second."""
        if moment < self.first:
            return _EMPTY
        if moment > self.last and self.settled is not None:
            return self.settled
        replay = Replay()
        done = 0
        for at, name, arguments in self.facts:
            if at > moment or (at == moment and not whole):
                break
            replay.pass_time(at)
            getattr(replay, name)(at, *_fresh(arguments))
            done += 1
        if not done:
            replay.before(moment, () if self.held else self.rows)
        replay.pass_time(moment)
        if moment > self.last:
            self.settled = replay
        return replay

    def note(self, at: int, name: str, *arguments: Any) -> None:
        """Note something that happened to it."""
        self.facts.append((at, name, arguments))
        self.last, self.settled = max(self.last, at), None


def _fresh(arguments: Iterable[Any]) -> list[Any]:
    """Copy the rows among arguments, so that doing it again begins from the same ones."""
    return [
        copy(one)
        if isinstance(one, Row)
        else [copy(row) for row in one]
        if isinstance(one, list) and one and isinstance(one[0], Row)
        else one
        for one in arguments
    ]


class Books:
    """The bills and entries of one account and mode. ``keep`` False notes nothing."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self.bills: dict[str, Bill] = {}
        self.entries: list[tuple[int, str, Amounts]] = []

    # What the model notes.

    def finalized(self, at: int, invoice: Invoice) -> None:
        """Note a finalised invoice."""
        if not self._keep:
            return
        rows = [_row(line, invoice) for line in invoice.lines]
        of = invoice.subscription
        held = invoice.reason == "subscription_create" and of is not None and of.status == "incomplete"
        first = min([at, *(row.start for row in rows if row.start < row.end)])
        last = max([at, *(row.end for row in rows)])
        bill = Bill(invoice.id, invoice.currency, rows, at, at if held else first, held, last)
        bill.note(at, "finalized", rows, invoice.total, invoice.from_balance, held)
        self.bills[invoice.id] = bill

    def bought(self, at: int, key: str, currency: str, net: int, tax: int = 0) -> None:
        """Note a purchase that is paid for."""
        if self._keep:
            row = Row(key, at, at, net, tax)
            self.bills[key] = Bill(key, currency, [row], at, at, False, at)
            self.bills[key].note(at, "bought", row)

    def happened(self, at: int, key: str, name: str, *arguments: Any) -> None:
        """Note what happened to a bill; ``name`` is what ``truth_replay`` calls it."""
        if self._keep:
            self.bills[key].note(at, name, *arguments)

    def credited(self, at: int, note: CreditNote) -> None:
        """Note a credit note, or that it is void."""
        parts = [(line.id if line else None, amount) for _, line, amount in note.lines]
        refunded = sum(refund.amount for refund in note.refunds)
        to = {
            "accounts_receivable": -note.pre_payment,
            "refunds_clearing": -refunded,
            "external_asset": -note.out_of_band,
            "customer_balance": -(note.amount - note.pre_payment - note.out_of_band - refunded),
        }
        if note.status == "void":
            self.happened(at, note.invoice.id, "undone", note.id, "credit_notes", to)
        else:
            self.happened(at, note.invoice.id, "credited", note.id, parts, to)

    def entry(self, at: int, currency: str, **amounts: int) -> None:
        """Note an entry that is of no bill: money that moves between places."""
        if sum(amounts.values()):
            raise ValueError(f"an entry does not balance: {amounts}")
        if self._keep:
            self.entries.append((at, currency, amounts))

    # What is asked.

    def trial_balance(self, moment: int, *, whole: bool = True) -> dict[str, Amounts]:
        """Return by currency every account's balance at a moment, debits positive, since the beginning."""
        found: dict[str, Amounts] = {}
        for bill in self.bills.values():
            _add(found.setdefault(bill.currency, {}), bill.replayed(moment, whole=whole).accounts)
        for at, currency, amounts in self.entries:
            if at < moment or (at == moment and whole):
                _add(found.setdefault(currency, {}), amounts)
        return {key: {name: amount for name, amount in sorted(found[key].items()) if amount} for key in sorted(found)}

    def recognition(self, start: int, end: int) -> dict[str, dict[str, Any]]:
        """Return by currency what was billed, earned and taken back in ``[start, end)``, and both balances."""
        found: dict[str, dict[str, Any]] = {}
        opening, closing = self.flows(start), self.flows(end)
        before, after = self.trial_balance(start, whole=False), self.trial_balance(end, whole=False)
        for currency in sorted(closing):
            was, now = opening.get(currency, {}), closing[currency]
            moved = {name: amount - was.get(name, 0) for name, amount in now.items()}
            held = {"opening": before.get(currency, {}), "closing": after.get(currency, {})}
            contra = {name: moved.get(f"contra.{name}", 0) for name in _CONTRA}
            change = {
                name: held["closing"].get(name, 0) - held["opening"].get(name, 0)
                for name in ("bad_debt", "recoverables")
            }
            found[currency] = {
                "billed": moved.get("billed", 0),
                "recognized": moved.get("recognized", 0),
                "net_revenue": moved.get("recognized", 0) - sum(contra.values()),
                **{f"deferred_{when}": -amounts.get("deferred_revenue", 0) for when, amounts in held.items()},
                **{f"unbilled_{when}": amounts.get("unbilled_receivable", 0) for when, amounts in held.items()},
                "released": {name: moved.get(f"released.{name}", 0) for name in (*_CONTRA, "bad_debt")},
                "reinstated": moved.get("reinstated", 0),
                "contra": contra,
                "bad_debt": change["bad_debt"],
                "recoverables": -change["recoverables"],
            }
        return found

    def flows(self, moment: int) -> dict[str, Amounts]:
        """Return by currency what had flowed before a moment."""
        found: dict[str, Amounts] = {}
        for bill in self.bills.values():
            _add(found.setdefault(bill.currency, {}), bill.replayed(moment, whole=False).flows)
        return found


def _row(line: Line, of: Invoice) -> Row:
    inclusive = of.tax_rate is not None and of.tax_rate.inclusive
    net = line.amount - line.discount - (line.tax if inclusive else 0)
    return Row(line.id, line.start, line.end, net, line.tax)


def _add(to: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        to[name] = to.get(name, 0) + amount
