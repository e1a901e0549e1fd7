"""From the effective to the reported books: closed months as sealed, and later changes posted afterwards. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from projections.mrr.movements import kind_of
from projections.periods.months import month_of, month_start
from projections.periods.seal import PRIOR_PERIOD, SealedLine, SealedMovement

_Key = tuple[str, str, str, str, str, str | None]


class _Fact(NamedTuple):
    """An entry of one original month: what a prior-period entry is made for."""

    owner: str
    entry: str
    original_month: str
    currency: str


def reported_lines(effective: Iterable[SealedLine], sealed: Iterable[SealedLine], first_open: str) -> list[SealedLine]:
    """Return what open months report: effective entries and, at the start of the first, what changed in closed ones."""
    early: list[SealedLine] = []
    found: list[SealedLine] = []
    for one in effective:
        (early if one.original_month < first_open else found).append(one)
    return [*prior_period(early, sealed, first_open), *found]


def prior_period(now: Iterable[SealedLine], sealed: Iterable[SealedLine], first_open: str) -> list[SealedLine]:
    """Return the differences between the effective books of closed months and everything sealed for them.

    One entry for each fact and original month, which balances as both sides do.
    """
    amounts: dict[_Key, int] = {}
    shown: dict[_Fact, SealedLine] = {}
    about: dict[_Key, SealedLine] = {}
    for sign, lines in ((-1, sealed), (1, now)):
        for one in lines:
            entry = original_entry(one)
            key = (one.owner, entry, one.original_month, one.currency, one.account, one.line)
            amounts[key] = amounts.get(key, 0) + sign * one.amount
            shown[_Fact(*key[:4])] = about[key] = one
    at = month_start(first_open)
    found = []
    for key, amount in amounts.items():
        if amount:
            fact = _Fact(*key[:4])
            like = shown[fact]
            found.append(
                like._replace(
                    entry=f"{fact.entry}:prior:{fact.original_month}:{first_open}",
                    kind=PRIOR_PERIOD,
                    of=like.of,
                    at=at,
                    account=key[4],
                    line=key[5],
                    subscription=about[key].subscription,
                    product=about[key].product,
                    price=about[key].price,
                    tax_rate=about[key].tax_rate,
                    amount=amount,
                )
            )
    return found


def original_entry(one: SealedLine) -> str:
    """Return the entry that a line is of; for a prior-period one, the entry that it corrects."""
    return one.entry.rpartition(":prior:")[0] if one.kind == PRIOR_PERIOD else one.entry


def reported_movements(
    effective: Iterable[SealedMovement], sealed: Sequence[SealedMovement], first_open: str
) -> list[SealedMovement]:
    """Return the movements that open months report: effective ones, and at the start of the first what changed before.

    Such a movement leads from the worth last reported to the effective one; its kind is that of this change.
    """
    now: dict[tuple[str, str, str], SealedMovement] = {}
    found: list[SealedMovement] = []
    for one in effective:
        if month_of(one.at) >= first_open:
            found.append(one)
        else:
            key = (one.owner, one.policy, one.currency)
            now[key] = max(now.get(key, one), one, key=lambda movement: movement.at)
    return [*prior_movements(now, sealed, first_open), *found]


def prior_movements(
    now: Mapping[tuple[str, str, str], SealedMovement], sealed: Sequence[SealedMovement], first_open: str
) -> Iterable[SealedMovement]:
    """Return the movements from the worth last reported to the effective one (``now``), where they differ."""
    last: dict[tuple[str, str, str], int] = {}
    ever: set[tuple[str, str]] = set()
    because: dict[tuple[str, str, str], SealedMovement] = dict(now)
    for one in sealed:
        key = (one.owner, one.policy, one.currency)
        last[key] = last.get(key, 0) + one.after - one.before
        because.setdefault(key, one)
        ever.add((one.owner, one.policy))
    for key in sorted({*now, *last}):
        before, after = last.get(key, 0), now[key].after if key in now else 0
        if before != after:
            kind = kind_of(before, after, had=key[:2] in ever)
            like = because[key]
            yield like._replace(
                kind=kind, at=month_start(first_open), before=before, after=after,
                prior_period=True, involuntary=False, reason=None,
            )  # fmt: skip
