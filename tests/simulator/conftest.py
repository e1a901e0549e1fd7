"""The default company, played once for all that look at it."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.simulator.company import Arguments, Company


@pytest.fixture(scope="package")
def played() -> tuple[Company, list[dict[str, Any]]]:
    """The default company with its events, three years of them; its truth is complete."""
    made = Company(Arguments())
    return made, list(made.events())


@pytest.fixture(scope="package")
def company(played: tuple[Company, list[dict[str, Any]]]) -> Company:
    return played[0]


@pytest.fixture(scope="package")
def events(played: tuple[Company, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return played[1]
