"""How one source stands at the very moments its standing turns: every interval is half-open, every cap is exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from projections.catalog import Policy
from projections.entitlements.rows import EvidenceRow, SourceRow
from projections.entitlements.standing import spans, standing

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def source(status: str = "active") -> SourceRow:
    return SourceRow(
        subject="self:live/cus_1", book="self:live", customer="cus_1", kind="subscription", source="sub_1", item="si_1",
        product="prod_1", price=None, lookup_key=None, quantity=None, feature=None, value=None, status=status,
        status_since=day(20), ends_at=None, expires_at=None, note=None, valid_from=day(0), valid_to=None,
        because=("evt_1",),
    )  # fmt: skip


def evidence(
    kind: str, at: float, until: float | None = None, covers: tuple[float, float] | None = None
) -> EvidenceRow:
    covers_from, covers_to = (day(covers[0]), day(covers[1])) if covers else (None, None)
    over = None if until is None else day(until)
    return EvidenceRow(
        "self:live/cus_1", "self:live", "sub_1", kind, f"in_{at}", covers_from, covers_to, day(at), over, ("evt_2",)
    )


PAID = evidence("paid", 1)
CAPPED = Policy(past_due="grace", past_due_grace_days=10, trial_conversion_grace_days=3)


@pytest.mark.parametrize(
    ("known", "over"),
    [
        ((PAID, evidence("owed", 20)), 30),
        ((PAID, evidence("owed", 20), evidence("owed", 27)), 30),  # a newer failure does not begin it anew
        ((PAID, evidence("owed", 12, until=19), evidence("owed", 22)), 32),  # what was paid meanwhile does not count
        ((PAID,), 30),  # nobody knows of what: from the status on
        ((evidence("owed", 20),), 23),  # never paid anything: the shorter grace of a trial's end
        ((evidence("owed", 20), evidence("paid", 22.5)), 30),
    ],
)
def test_grace_is_counted_from_the_earliest_open_failure_to_the_moment(
    known: tuple[EvidenceRow, ...], over: float
) -> None:
    row = source("past_due")
    last, first = day(over) - MOMENT, day(over)
    assert standing(row, known, CAPPED, last)[:4] == (True, "grace", "grace", first)
    assert standing(row, known, CAPPED, first)[:4] == (False, "suspended", "grace_over", first)


def test_allowed_grace_has_no_end_for_who_has_paid_and_a_short_one_for_who_never_did() -> None:
    row, policy = source("past_due"), Policy(past_due="allow", trial_conversion_grace_days=3)
    assert standing(row, (PAID, evidence("owed", 20)), policy, day(3_000)).granted
    assert [standing(row, (evidence("owed", 20),), policy, day(at)).granted for at in (22.9, 23)] == [True, False]


@pytest.mark.parametrize(
    ("block", "taken_from", "taken_to"),
    [
        (evidence("disputed", 5, covers=(0, 30)), 5, 30),  # for as long as the invoice's period lasts
        (evidence("disputed", 5, until=12, covers=(0, 30)), 5, 12),  # until it is won
        (evidence("disputed", 5, covers=(10, 30)), 10, 30),  # not before the period begins
    ],
)
def test_a_dispute_takes_access_within_its_invoices_period_and_while_it_stands(
    block: EvidenceRow, taken_from: float, taken_to: float
) -> None:
    row, policy, known = source(), Policy(dispute="suspend"), (PAID, block)
    for at, granted in (
        (day(taken_from) - MOMENT, True),
        (day(taken_from), False),
        (day(taken_to) - MOMENT, False),
        (day(taken_to), True),
    ):
        assert standing(row, known, policy, at).granted is granted, at
    assert standing(row, known, Policy(), day(taken_from)).granted
    assert spans(row, known, policy, day(1)) == [(day(0), day(taken_from)), (day(taken_to), None)]
