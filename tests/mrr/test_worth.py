"""What a subscription is worth a month, case by case (stripe-domain §5.1): every number here is worked out by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from projections.mrr import portfolio
from projections.mrr.portfolio import Portfolio, worth_at
from projections.mrr.worth import Worth
from tests.mrr.notation import History, at, invoice, item, line, subscription, unix

Json = dict[str, Any]


def worth(subject: Json, when: str = "03-01", *events: tuple[str, Json]) -> Worth:
    """Return what ``sub_1`` is worth when all that is known is one snapshot, and what else happened by then."""
    history = History()
    history.says("02-01", subject, "created")
    for type_, other in events:
        history.event("02-01 00:00:05", type_, other)
    return worth_in(history.portfolio(), when)


def worth_in(folded: Portfolio, when: str) -> Worth:
    found = worth_at(folded, "sub_1", at(when))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sold", "gross"),
    [
        ("si_1 1 x 3100/month", 3100),
        ("si_1 3 x 3100/month", 9300),
        ("si_1 1 x 9000/3 month", 3000),
        ("si_1 1 x 12000/year", 1000),
        ("si_1 1 x 12100/year", 1008),
        ("si_1 1 x 24000/2 year", 1000),
        ("si_1 1 x 400/week", round(Fraction(400 * 365, 84))),
        ("si_1 1 x 84/2 week", 182),
        ("si_1 1 x 12/day", 365),
        ("si_1 3 x 0.5/month", 2),
        ("si_1 5 x 0.5/month", 2),
        ("si_1 1 x 12345678901234567890/month", 12345678901234567890),
    ],
)
def test_intervals_and_units(sold: str, gross: int) -> None:
    assert worth(subscription(sold)).gross == gross


def test_items_of_different_intervals_add_up_and_are_rounded_once() -> None:
    found = worth(subscription("si_1 1 x 5/year", "si_2 1 x 5/year", "si_3 1 x 1000/month"))
    assert found.gross == 1001  # 10/12 and not twice 5/12
    assert [one.gross for one in found.items] == [1, 0, 1000]
    assert sum(one.net_forever for one in found.items) == found.net_forever


@pytest.mark.parametrize(("round_", "gross"), [("up", 600), ("down", 400)])
def test_packages(round_: str, gross: int) -> None:
    sold = item("si_1 25 x 200/month", price={"transform_quantity": {"divide_by": 10, "round": round_}})
    assert worth(subscription(sold)).gross == gross


def test_metered_items_are_worth_nothing() -> None:
    metered = item("si_1 1 x 500/month")
    metered["price"]["recurring"]["usage_type"] = "metered"
    found = worth(subscription(metered, "si_2 1 x 900/month"))
    assert (found.gross, found.incomplete) == (900, ())


TIERS = [
    {"up_to": 10, "unit_amount": 100, "flat_amount": 500},
    {"up_to": 20, "unit_amount": 80, "flat_amount": None},
    {"up_to": None, "unit_amount_decimal": "50", "flat_amount": 1000},
]


@pytest.mark.parametrize(
    ("mode", "quantity", "gross"),
    [
        ("graduated", 5, 1000), ("graduated", 10, 1500), ("graduated", 15, 1900), ("graduated", 30, 3800),
        ("volume", 5, 1000), ("volume", 10, 1500), ("volume", 15, 1200), ("volume", 30, 2500),
    ],
)  # fmt: skip
def test_bands_that_are_shown(mode: str, quantity: int, gross: int) -> None:
    sold = item(f"si_1 {quantity} x tiers/month", price={"tiers": TIERS, "tiers_mode": mode})
    assert worth(subscription(sold)).gross == gross


def test_bands_come_with_the_price_from_wherever_it_is_known() -> None:
    history = History()
    history.says("02-01", subscription(item("si_1 15 x tiers/month", price={"tiers_mode": "graduated"})))
    assert (worth_in(history.portfolio(), "03-01").gross, worth_in(history.portfolio(), "03-01").incomplete) == (
        0,
        ("tiers",),
    )
    history.event("02-20", "price.created", {"id": "price_si_1", "tiers": TIERS, "tiers_mode": "graduated"})
    assert (worth_in(history.portfolio(), "03-01").gross, worth_in(history.portfolio(), "03-01").incomplete) == (
        1900,
        (),
    )


def test_bands_that_nobody_shows_are_what_was_billed() -> None:
    sold = subscription("si_1 15 x tiers/3 month")
    billed = ("invoice.finalized", invoice(line("si_1", 6000, 15)))
    found = worth(sold, "03-01", billed)
    assert (found.gross, found.incomplete) == (2000, ())
    more = worth(subscription("si_1 16 x tiers/3 month"), "03-01", billed)
    assert (more.gross, more.incomplete) == (2000, ("tiers",))
    proration = ("invoice.finalized", invoice(line("si_1", 77, 15, proration=True)))
    assert worth(sold, "03-01", proration).incomplete == ("tiers",)


def test_a_price_in_another_currency_is_what_was_billed() -> None:
    sold = subscription("si_1 4 x 1000/month in eur")
    assert (worth(sold).gross, worth(sold).incomplete) == (0, ("currency",))
    found = worth(sold, "03-01", ("invoice.finalized", invoice(line("si_1", 2200, 2))))
    assert (found.gross, found.currency, found.incomplete) == (4400, "usd", ())


def test_a_price_in_another_currency_may_say_what_it_costs_here() -> None:
    history = History()
    history.says("02-01", subscription("si_1 4 x 1000/month in eur"))
    options = {"usd": {"unit_amount": 1100, "unit_amount_decimal": "1100"}}
    history.event("02-20", "price.updated", {"id": "price_si_1", "currency": "eur", "currency_options": options})
    assert worth_in(history.portfolio(), "03-01").gross == 4400


def discount(coupon: Json | str, key: str = "di_1", **more: Any) -> Json:
    return {"id": key, "object": "discount", "source": {"type": "coupon", "coupon": coupon}, "end": None, **more}


def coupon(duration: str, **off: Any) -> Json:
    return {"id": "half", "object": "coupon", "duration": duration, **off}


@pytest.mark.parametrize(
    ("terms", "forever", "all_"),
    [
        (coupon("forever", percent_off=25), 4500, 4500),
        (coupon("forever", percent_off=33.33), 4000, 4000),
        (coupon("repeating", percent_off=25), 6000, 4500),
        (coupon("once", percent_off=100), 6000, 0),
        (coupon("forever", amount_off=1000, currency="usd"), 5000, 5000),
        (coupon("forever", amount_off=9000, currency="usd"), 0, 0),
        (coupon("forever", amount_off=900, currency="eur", currency_options={"usd": {"amount_off": 1000}}), 5000, 5000),
        (coupon("forever", percent_off=50, applies_to={"products": ["prod_si_2"]}), 5000, 5000),
    ],
)
def test_discounts(terms: Json, forever: int, all_: int) -> None:
    found = worth(subscription("si_1 1 x 4000/month", "si_2 1 x 2000/month", discounts=[discount(terms)]))
    assert (found.gross, found.net_forever, found.net_all, found.incomplete) == (6000, forever, all_, ())
    assert found.under("stripe-2026") == forever
    assert found.under("all-discounts") == all_


def test_an_items_own_discount_comes_first_and_only_from_it() -> None:
    own = discount(coupon("forever", amount_off=1200, currency="usd"), "di_2")
    yearly = item("si_1 1 x 12000/year", discounts=[own])
    shared = discount(coupon("forever", percent_off=50) | {"id": "other"})
    found = worth(subscription(yearly, "si_2 1 x 2000/month", discounts=[shared]))
    assert [one.net_forever for one in found.items] == [450, 1000]


def test_an_amount_off_is_taken_with_every_invoice() -> None:
    off = discount(coupon("forever", amount_off=1200, currency="usd"))
    assert worth(subscription("si_1 1 x 12000/year", discounts=[off])).net_forever == 900
    assert worth(subscription("si_1 1 x 12000/year", "si_2 1 x 3000/month", discounts=[off])).net_forever == 2800


def test_an_amount_off_some_products_is_taken_with_their_invoices_alone() -> None:
    off = discount(coupon("forever", amount_off=1200, currency="usd") | {"applies_to": {"products": ["prod_si_1"]}})
    found = worth(subscription("si_1 1 x 12000/year", "si_2 1 x 3000/month", discounts=[off]))
    assert [one.net_forever for one in found.items] == [900, 3000]


def test_a_coupon_known_by_id_alone_is_missed_until_its_terms_come() -> None:
    history = History()
    history.says("02-01", subscription("si_1 1 x 4000/month", discounts=["di_1"]))
    history.event("02-01", "customer.discount.created", discount("half", subscription="sub_1"))
    found = worth_in(history.portfolio(), "03-01")
    assert (found.gross, found.net_forever, found.incomplete) == (4000, 4000, ("discounts",))
    history.event("02-20", "coupon.created", coupon("forever", percent_off=50))
    found = worth_in(history.portfolio(), "02-02")
    assert (found.gross, found.net_forever, found.incomplete) == (4000, 2000, ())
    named = history.references[0].subject["id"]
    history.event("01-15", "price.updated", {"id": named, "object": "price", "unit_amount": 5})
    found = worth_in(history.portfolio(), "02-02")
    assert (found.net_forever, found.incomplete) == (2000, ()), "sellers may name a price as they name a coupon"


@pytest.mark.parametrize("shows", [True, False])
def test_which_products_a_coupon_is_for_is_known_from_an_observation_alone(shows: bool) -> None:
    terms = coupon("forever", percent_off=50)
    history = History()
    history.event("01-10", "coupon.created", terms)
    history.event("01-20", "coupon.updated", terms | {"applies_to": {"products": ["prod_si_2"]}})  # as it is observed
    history.event("01-25", "coupon.updated", terms | {"name": "half"})
    own = discount(terms if shows else terms["id"])
    history.says("02-01", subscription("si_1 1 x 4000/month", "si_2 1 x 2000/month", discounts=[own]))
    assert worth_in(history.portfolio(), "03-01").net_forever == 5000


def test_a_customers_discount_counts_where_the_subscription_has_none() -> None:
    own = discount(coupon("forever", percent_off=50), customer="cus_1", subscription=None)
    given = ("customer.discount.created", own)
    assert worth(subscription("si_1 1 x 4000/month"), "03-01", given).net_forever == 2000
    other = discount(coupon("forever", percent_off=10) | {"id": "ten"}, "di_2")
    assert worth(subscription("si_1 1 x 4000/month", discounts=[other]), "03-01", given).net_forever == 3600
    gone = ("customer.discount.deleted", own)
    assert worth(subscription("si_1 1 x 4000/month"), "03-01", given, gone).net_forever == 4000


@pytest.mark.parametrize("of", ["invoice", "invoice_item", "checkout_session"])
def test_a_discount_of_one_bill_is_none_of_all_subscriptions(of: str) -> None:
    once = discount(coupon("forever", percent_off=50), customer="cus_1", subscription=None) | {of: "x_1"}
    given = ("customer.discount.created", once)
    assert worth(subscription("si_1 1 x 4000/month"), "03-01", given).net_forever == 4000


def test_a_discount_ends_by_time_alone() -> None:
    history = History()
    ends = discount(coupon("repeating", percent_off=50), end=unix("04-15 12:00"))
    history.says("02-01", subscription("si_1 1 x 4000/month", discounts=[ends]))
    folded = history.portfolio()
    assert worth_in(folded, "04-15 11:59:59").net_all == 2000
    assert worth_in(folded, "04-15 12:00").net_all == 4000
    assert folded.lives["sub_1"].spans[-1].because == ("evt_1",)


@pytest.mark.parametrize(
    ("rates", "lines", "net", "incomplete"),
    [
        ([{"percentage": 19.0, "inclusive": True}], [], 10000, ()),
        ([{"percentage": 19.0, "inclusive": True}], [line("si_1", 11900, tax=1900)], 10000, ()),
        ([{"percentage": 19.0, "inclusive": True}], [line("si_1", 11900)], 11900, ()),
        ([{"percentage": 19.0, "inclusive": False}], [], 11900, ()),
        ([], [line("si_1", 11900, tax=1900)], 10000, ()),
        ([], [], 11900, ("tax",)),
    ],
)
def test_tax_that_the_price_contains(
    rates: list[Json], lines: list[Json], net: int, incomplete: tuple[str, ...]
) -> None:
    contained = not rates or bool(rates[0]["inclusive"])
    sold = item("si_1 1 x 11900/month", price={"tax_behavior": "inclusive" if contained else "exclusive"})
    billed = ("invoice.finalized", invoice(*lines))
    found = worth(subscription(sold, default_tax_rates=rates), "03-01", billed)
    assert (found.gross, found.net_forever, found.incomplete) == (net, net, incomplete)


@pytest.mark.parametrize(
    "status", ["trialing", "incomplete", "incomplete_expired", "paused", "unpaid", "canceled", "new"]
)
def test_only_what_is_active_or_past_due_counts(status: str) -> None:
    assert worth(subscription("si_1 1 x 4000/month", status=status)).gross == 0
    assert worth(subscription("si_1 1 x 4000/month", status=status)).reason == status
    assert worth(subscription("si_1 1 x 4000/month", status="past_due")).gross == 4000


@pytest.mark.parametrize(
    ("behavior", "paused", "reason", "flags"),
    [
        ("void", 0, "collection_paused", ()),
        ("mark_uncollectible", 0, "collection_paused", ()),
        ("keep_as_draft", 4000, "", ("collection_as_draft",)),
    ],
)
def test_paused_collection_ends_by_time_alone(behavior: str, paused: int, reason: str, flags: tuple[str, ...]) -> None:
    pause = {"behavior": behavior, "resumes_at": unix("05-01")}
    history = History()
    history.says("02-01", subscription("si_1 1 x 4000/month", pause_collection=pause))
    found = worth_in(history.portfolio(), "04-30")
    assert (found.gross, found.reason, found.flags) == (paused, reason, flags)
    assert worth_in(history.portfolio(), "05-01").gross == 4000


def test_an_items_trial_ends_by_time_alone() -> None:
    trial = item("si_1 1 x 4000/month", current_trial={"start_date": unix("02-01"), "end_date": unix("03-15")})
    history = History()
    history.says("02-01", subscription(trial, "si_2 1 x 900/month"))
    assert worth_in(history.portfolio(), "03-14").gross == 900
    assert worth_in(history.portfolio(), "03-15").gross == 4900


def test_a_planned_end_is_a_flag_and_the_end_is_dated_when_it_came() -> None:
    history = History()
    sold = subscription("si_1 1 x 4000/month", cancel_at_period_end=True)
    history.says("02-01", sold, "created")
    history.says("03-01 00:00:09", sold | {"status": "canceled", "ended_at": unix("03-01")}, "deleted")
    folded = history.portfolio()
    assert worth_in(folded, "02-28").flags == ("churning",)
    assert (worth_in(folded, "02-28 23:59:59").gross, worth_in(folded, "03-01").gross) == (4000, 0)


def test_items_that_are_not_all_shown_are_missed() -> None:
    shown = subscription("si_1 1 x 4000/month")
    shown["items"]["has_more"] = True
    assert worth(shown).incomplete == ("items",)


def test_items_that_are_not_all_shown_are_counted_once_stripe_has_named_them() -> None:
    items = [item(f"si_{n} 1 x 100/month", discounts=["di_1"] if n == 12 else []) for n in range(1, 13)]

    def observed(history: History, when: str, data: list[Json]) -> None:
        answer = {"object": "list", "kind": "subscription.items", "of": "sub_1", "data": data}
        history.event(when, "ledger.observation.recorded", answer)

    def says(history: History, when: str, kind: str = "updated", **more: Any) -> None:
        shown = subscription(*items[:10], default_tax_rates=[{"inclusive": True, "percentage": 25.0}])
        shown["items"]["has_more"] = True
        history.says(when, shown | more, kind)

    history = History()
    says(history, "02-01", "created")
    assert worth_in(history.portfolio(), "02-02")[1:4] == (800, 800, 800)
    observed(history, "02-01", items)
    history.event("02-02", "coupon.created", {"id": "c", "object": "coupon", "duration": "forever", "percent_off": 50})
    discount = {"id": "di_1", "object": "discount", "source": {"coupon": "c"}, "subscription_item": "si_12"}
    history.event("02-02", "customer.discount.created", discount)
    says(history, "03-01", latest_invoice="in_2")
    folded = history.portfolio()
    assert [(worth_in(folded, when).gross, worth_in(folded, when).incomplete) for when in ("02-01", "03-01")] == [
        (960, ("discounts",)), (960, ("items",))
    ]  # fmt: skip
    assert worth_in(folded, "03-01").net_forever == 920
    observed(history, "03-01", items[1:])
    found = worth_in(history.portfolio(), "03-01")
    assert (found.gross, found.net_forever, found.incomplete) == (880, 840, ())


def test_a_subscription_older_than_items_and_prices() -> None:
    plan = {
        "id": "gold",
        "amount": 3000,
        "currency": "usd",
        "interval": "month",
        "interval_count": 3,
        "product": "prod_1",
    }
    old = {"id": "sub_1", "customer": "cus_1", "status": "active", "plan": plan, "quantity": 2}
    found = worth(old)
    assert (found.currency, found.gross, found.incomplete) == ("usd", 2000, ())


def test_what_cannot_be_read_is_missed_and_harms_nothing() -> None:
    odd: Json = {
        "id": "si_1",
        "quantity": "many",
        "price": {"id": 7, "recurring": [], "unit_amount": {}},
        "discounts": 3,
    }
    for shown in ([odd], None, {"data": odd}, "items"):
        found = worth({"id": "sub_1", "status": "active", "items": {"data": shown}, "discounts": {"a": 1}})
        assert (found.gross, found.currency) == (0, "")


HOSTILE: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1.5,
    "",
    "x",
    "1e999999999",
    "NaN",
    [],
    [1],
    [{}],
    {},
    {"a": 1},
    {"data": 5},
]


@pytest.mark.parametrize(
    "key", sorted({*subscription("si_1 1 x 5/month"), "cancel_at", "pause_collection", "discount"})
)
def test_no_shape_of_a_subscription_stops_a_fold(key: str) -> None:
    for value in HOSTILE:
        history = History()
        history.says("02-01", subscription("si_1 1 x 5/month") | {key: value}, "created")
        history.says("02-02", subscription("si_1 1 x 5/month"))
        history.portfolio()


@pytest.mark.parametrize(
    "key", sorted({*item("si_1 1 x 5/month")["price"], "tiers", "tiers_mode", "transform_quantity"})
)
def test_no_shape_of_a_price_stops_a_fold(key: str) -> None:
    for value in HOSTILE:
        for inner in (value, {"interval_count": value}, [{"up_to": value, "unit_amount": value, "flat_amount": value}]):
            sold = item("si_1 1 x 5/month", price={key: inner})
            for more in (
                sold,
                sold | {"quantity": value, "current_trial": value, "discounts": value, "tax_rates": value},
            ):
                history = History()
                history.says("02-01", subscription(more), "created")
                history.portfolio()


@pytest.mark.parametrize("type_", sorted(portfolio.STEPS))
def test_no_shape_of_any_event_stops_a_fold(type_: str) -> None:
    known = subscription("si_1 1 x tiers/month", discounts=["di_1"])
    for value in HOSTILE:
        history = History()
        history.says("02-01", known, "created")
        off = {"id": "c", "duration": value, "percent_off": value, "amount_off": value, "currency_options": value}
        for subject in (
            {"id": "x", "object": value, "discount": value, "source": value, "coupon": value, "end": value},
            {"id": "di_1", "source": {"coupon": off | {"applies_to": {"products": value}}}, "end": value},
            invoice(line("si_1", 5)) | {"total": value, "billing_reason": value, "lines": {"data": value}},
            invoice(line("si_1", 5, taxes=value, discount_amounts=value) | {"quantity": value}),
        ):
            history.event("02-02", type_, subject)
        history.portfolio()
