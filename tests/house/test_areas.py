"""The time the suite may take: every area has a budget, all of them are less than ten minutes on two cores."""

from __future__ import annotations

from pathlib import Path

from tests.areas import BUDGETS, SLOW, WAITING, unit_of

ROOT = Path(__file__).parents[2]
WORKERS, SECONDS, TO_BEGIN = 3, 600, 30


def test_every_area_has_a_budget_and_they_fit() -> None:
    areas = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert areas == BUDGETS.keys() | SLOW
    assert BUDGETS.keys() >= WAITING
    assert sum(BUDGETS.values()) <= WORKERS * (SECONDS - TO_BEGIN)
    assert f'-m "not slow" -n {WORKERS} ' in (ROOT / "Makefile").read_text()


def test_a_unit_is_a_file_but_the_simulators_are_one() -> None:
    assert unit_of("tests/log/test_append.py::test_one[a/b::c]") == "tests/log/test_append.py"
    assert unit_of("tests/simulator/test_books.py::test_one") == unit_of("tests/simulator/test_company.py::test_two")
