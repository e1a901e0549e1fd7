"""What the guide shows is so: its catalog is one, its words are those that answers use."""

from __future__ import annotations

from typing import get_args

from projections.catalog import Policy, parse_catalog
from projections.entitlements.standing import DENIES, NEAREST, State
from tests.docs.blocks import ROOT, blocks_of

PAGE = "docs/entitlements.md"
GUIDE = (ROOT / PAGE).read_text()


def test_the_catalog_shown_is_one_and_its_policy_the_default() -> None:
    [block] = [one for one in blocks_of(PAGE) if one.language == "toml"]
    catalog = parse_catalog(block.text)
    assert catalog.policy == Policy()
    assert {one.feature: one.value(None) for one in catalog.given("prod_team", None, None)} == {
        "seats": None, "sso": None, "support": None,
    }  # fmt: skip
    assert [one.choice for one in catalog.given("prod_team", "price_team_gold", None) if one.choice] == ["phone"]


def test_every_word_of_an_answer_is_explained() -> None:
    for word in {*get_args(State), *NEAREST, *(reason for reason, _ in DENIES.values())}:
        assert f"`{word}`" in GUIDE, word
