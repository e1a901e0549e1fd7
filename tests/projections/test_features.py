"""What a product's metadata gives."""

from __future__ import annotations

from decimal import Decimal

import pytest

from projections.entitlements.features import features_given


@pytest.mark.parametrize(
    ("text", "quantity", "given"),
    [
        ("", 3, {"prod_1": None}),
        ("sso", 3, {"sso": None, "prod_1": None}),
        (" sso , seats = quantity ", 3, {"sso": None, "seats": 3, "prod_1": None}),
        ("calls=quantity*1000", 3, {"calls": 3000, "prod_1": None}),
        ("projects=5", 3, {"projects": 5, "prod_1": None}),
        ("seats=quantity,seats=9", 3, {"seats": 3, "prod_1": None}),
        ("seats=many,=3,,a=b=c,sso", 3, {"sso": None, "prod_1": None}),
        ("a/b c", 3, {"a/b c": None, "prod_1": None}),
        ("seats=quantity", Decimal("2.5"), {"seats": Decimal("2.5"), "prod_1": None}),
    ],
)
def test_features_text(text: str, quantity: int, given: dict[str, object]) -> None:
    found = features_given(text, "prod_1", "price_1")
    assert {one.feature: one.value(Decimal(quantity)) for one in found} == given


def test_metered_items_have_no_amount() -> None:
    [seats, _] = features_given("seats=quantity", "prod_1", None)
    assert seats.value(None) is None


def test_without_a_product_the_price_names_the_feature() -> None:
    assert [one.feature for one in features_given("", None, "price_1")] == ["price_1"]
    assert features_given("", None, None) == ()
