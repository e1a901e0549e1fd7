"""The mutation script's mutants are still to be had: each finds its source text, and names tests that exist."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.mutants import mutated
from bench.mutations import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.area}: {mutant.breaks}")
def test_the_mutant_applies(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    assert mutated(mutant, text) != text
    assert all((ROOT / test.removeprefix("--deselect=").partition("::")[0]).exists() for test in mutant.tests)


def test_every_area_has_some_and_none_is_there_twice() -> None:
    assert len(MUTANTS) == len({mutant.breaks for mutant in MUTANTS})
    assert min(Counter(mutant.area for mutant in MUTANTS).values()) >= 4
