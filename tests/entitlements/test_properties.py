"""What must hold of every answer, whatever is held: sources add up, and nobody is granted what nothing gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.catalog import Published, parse_catalog
from projections.entitlements.answer import Answer, answer_all, next_turn
from projections.entitlements.rows import EvidenceRow, Holdings, SourceRow

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 40
STATUSES = ("active", "trialing", "past_due", "unpaid", "paused", "incomplete", "canceled", "incomplete_expired", "odd")
FEATURES = """
[features.seats]
kind = "quantity"
combine = "{combine}"
[features.sso]
kind = "boolean"
[features.level]
kind = "choice"
combine = ["low", "mid", "high"]
[[plans]]
product = "prod_0"
features = {{ seats = "quantity", sso = true, level = "low" }}
[[plans]]
product = "prod_1"
features = {{ seats = 3, level = "high" }}
[[plans]]
product = "prod_2"
features = {{ sso = true, level = "mid" }}
"""


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@st.composite
def policies(draw: st.DrawFn, /, **fixed: str) -> tuple[Published, ...]:
    policy = {
        "past_due": f'"{draw(st.sampled_from(("allow", "grace", "deny")))}"',
        "past_due_grace_days": str(draw(st.integers(0, 20))),
        "trial_conversion_grace_days": str(draw(st.integers(0, 5))),
        "dispute": f'"{draw(st.sampled_from(("keep", "suspend")))}"',
        "refund": f'"{draw(st.sampled_from(("keep", "revoke")))}"',
    } | fixed
    lines = [f"{name} = {value}" for name, value in policy.items()]
    text = "[policy]\n" + "\n".join(lines) + FEATURES.format(combine=draw(st.sampled_from(("sum", "max"))))
    return (Published(None, parse_catalog(text)),)


@st.composite
def source_rows(draw: st.DrawFn, number: int) -> list[SourceRow]:
    """Draw one item's life: rows that follow each other."""
    kind = draw(st.sampled_from(("subscription", "subscription", "purchase", "grant")))
    bounds = sorted(draw(st.sets(st.integers(0, DAYS), min_size=1, max_size=4)))
    statuses = {"purchase": ("paid", "pending", "refunded", "disputed"), "grant": ("granted", "revoked")}
    rows = []
    for start, end in zip(bounds, [*bounds[1:], None], strict=True):
        rows.append(
            SourceRow(
                "b/cus_1", "b", "cus_1", kind, f"src_{number}", "item", f"prod_{draw(st.integers(0, 3))}", None, None,
                Decimal(draw(st.integers(0, 9))), "beta" if kind == "grant" else None, None,
                draw(st.sampled_from(statuses.get(kind, STATUSES))), day(start), None,
                day(start + draw(st.integers(1, 30))) if kind == "grant" and draw(st.booleans()) else None, None,
                day(start), None if end is None else day(end), (f"evt_{number}_{start}",),
            )
        )  # fmt: skip
    return rows


@st.composite
def evidence_rows(draw: st.DrawFn, number: int) -> list[EvidenceRow]:
    found = []
    for key in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(("owed", "paid", "refunded", "disputed")))
        start, length = draw(st.integers(0, DAYS)), draw(st.integers(1, 20))
        end = day(start + length) if draw(st.booleans()) else None
        covers = draw(st.integers(0, DAYS))
        found.append(EvidenceRow("b/cus_1", "b", f"src_{number}", kind, f"in_{key}", day(covers), day(covers + 15),
                                 day(start), end, (f"evt_{kind}_{key}",)))  # fmt: skip
    return found


@st.composite
def everything(draw: st.DrawFn) -> list[tuple[list[SourceRow], list[EvidenceRow]]]:
    return [(draw(source_rows(number)), draw(evidence_rows(number))) for number in range(draw(st.integers(1, 4)))]


Sources = list[tuple[list[SourceRow], list[EvidenceRow]]]
MOMENTS = st.integers(0, 24 * DAYS).map(lambda hours: day(hours / 24))


def holdings_of(sources: Sources) -> Holdings:
    return Holdings(
        "cus_1", tuple(row for rows, _ in sources for row in rows), tuple(one for _, found in sources for one in found)
    )


def granted(sources: Sources, published: tuple[Published, ...], at: datetime) -> dict[str, Answer]:
    return {one.feature: one for one in answer_all(holdings_of(sources), published, at) if one.granted}


ORDER = ["low", "mid", "high"]


def at_least(more: Any, less: Any) -> bool:
    if isinstance(less, str):
        return ORDER.index(more) >= ORDER.index(less)
    return bool(less is None or more is None or more >= less)


@settings(max_examples=300, deadline=None)
@given(everything(), policies(), MOMENTS)
def test_another_source_never_takes_a_feature_and_one_less_takes_only_its_own(
    sources: Sources, published: tuple[Published, ...], at: datetime
) -> None:
    whole = granted(sources, published, at)
    for number in range(len(sources)):
        fewer = granted(sources[:number] + sources[number + 1 :], published, at)
        alone = granted([sources[number]], published, at)
        for feature, answer in fewer.items():
            assert feature in whole
            assert at_least(whole[feature].value, answer.value)
        assert set(whole) - set(fewer) <= set(alone)
        assert set(whole) == set(fewer) | set(alone)


@settings(max_examples=300, deadline=None)
@given(everything(), policies(), MOMENTS)
def test_nothing_is_granted_that_no_source_gives_at_that_moment(
    sources: Sources, published: tuple[Published, ...], at: datetime
) -> None:
    giving = {"active", "trialing", "past_due", "paid", "granted"}
    for answer in granted(sources, published, at).values():
        assert answer.sources
        assert answer.because
        assert answer.valid_from is not None
        assert answer.valid_from <= at
        assert answer.valid_until is None or at < answer.valid_until
        for one in answer.sources:
            assert one.source.holds_at(at)
            assert one.source.status in giving
            assert one.source.expires_at is None or at < one.source.expires_at
            given_by_it = granted(
                [found for found in sources if found[0][0].source == one.source.source], published, at
            )
            assert answer.feature in given_by_it


@settings(max_examples=300, deadline=None)
@given(everything(), policies(past_due='"allow"', dispute='"keep"', refund='"keep"'), MOMENTS)
def test_past_due_never_revokes_within_the_policy(
    sources: Sources, published: tuple[Published, ...], at: datetime
) -> None:
    paid = EvidenceRow("b/cus_1", "b", "", "paid", "", None, None, START - timedelta(days=1), None, ("evt_0",))
    sources = [(rows, [*found, paid._replace(source=rows[0].source)]) for rows, found in sources]
    as_if_active = [([replace_status(row) for row in rows], found) for rows, found in sources]
    assert set(granted(sources, published, at)) == set(granted(as_if_active, published, at))


def replace_status(row: SourceRow) -> SourceRow:
    return row._replace(status="active") if row.status == "past_due" else row


@settings(max_examples=200, deadline=None)
@given(everything(), policies(), MOMENTS, st.integers(1, 30))
def test_until_the_next_turn_no_answer_changes_but_by_rows(
    sources: Sources, published: tuple[Published, ...], at: datetime, days: int
) -> None:
    """Of what is known at a moment: rows that begin later are news, of which nobody knows yet."""
    known = [
        ([row._replace(valid_to=None) for row in rows if row.valid_from <= at][-1:], [
            one if one.valid_to is None or one.valid_to <= at else one._replace(valid_to=None)
            for one in found if one.valid_from <= at or one.kind == "owed"
        ])
        for rows, found in sources
    ]  # fmt: skip
    holdings = holdings_of(known)
    turn = next_turn(holdings, published, at)
    later = at + timedelta(days=days)
    if turn is None or later < turn:
        before = {one.feature: (one.granted, one.value) for one in answer_all(holdings, published, at)}
        after = {one.feature: (one.granted, one.value) for one in answer_all(holdings, published, later)}
        assert before == after


@settings(max_examples=200, deadline=None)
@given(everything(), policies(), MOMENTS)
def test_the_order_of_rows_and_other_holders_do_not_matter(
    sources: Sources, published: tuple[Published, ...], at: datetime
) -> None:
    holdings = holdings_of(sources)
    turned = replace(holdings, sources=holdings.sources[::-1], evidence=holdings.evidence[::-1])

    def said(held: Holdings) -> list[tuple[Any, ...]]:
        found = answer_all(held, published, at)
        return [(one.feature, one.granted, one.value, one.state, one.reason, one.valid_from, one.valid_until)
                for one in found]  # fmt: skip

    assert said(holdings) == said(turned)
