"""The default company, played once for all that look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ledger.simulator.company import Arguments, Company
from tests.keeping import kept


@pytest.fixture(scope="package")
def played() -> Iterator[tuple[Company, list[dict[str, Any]]]]:
    """The default company with its events, three years of them; its truth is complete."""
    made = Company(Arguments())
    with kept(lambda: list(made.events())) as events:
        yield made, events


@pytest.fixture(scope="package")
def company(played: tuple[Company, list[dict[str, Any]]]) -> Company:
    return played[0]


@pytest.fixture(scope="package")
def events(played: tuple[Company, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return played[1]
