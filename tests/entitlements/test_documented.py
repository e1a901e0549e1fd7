"""What the guide shows is so: its catalog is one, its words are those that answers use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from projections.catalog import Policy, parse_catalog
from projections.entitlements.standing import DENIES, NEAREST, State

GUIDE = (Path(__file__).parents[2] / "docs" / "entitlements.md").read_text()


def test_the_catalog_shown_is_one_and_its_policy_the_default() -> None:
    [text] = re.findall(r"<!-- catalog: example -->\n```toml\n(.*?)```", GUIDE, re.DOTALL)
    catalog = parse_catalog(text)
    assert catalog.policy == Policy()
    assert {one.feature: one.value(None) for one in catalog.given("prod_team", None, None)} == {
        "seats": None, "sso": None, "support": None,
    }  # fmt: skip
    assert [one.choice for one in catalog.given("prod_team", "price_team_gold", None) if one.choice] == ["phone"]


def test_every_word_of_an_answer_is_explained() -> None:
    for word in {*get_args(State), *NEAREST, *(reason for reason, _ in DENIES.values())}:
        assert f"`{word}`" in GUIDE, word
