"""The mutation script's mutants are still to be had: each finds its source text, and names tests that exist."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.mutant import Mutant
from bench.mutants import mutated
from bench.mutations import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.area}: {mutant.breaks}")
def test_the_mutant_applies(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text()
    assert mutated(mutant, text) != text
    assert all(_is_there(*test.partition("::")[::2]) for test in mutant.tests)


def _is_there(file: str, test: str) -> bool:
    path = ROOT / file
    return path.exists() and (not test or f"def {test.partition('[')[0]}(" in path.read_text())


def test_every_area_has_some_and_none_is_there_twice() -> None:
    assert len(MUTANTS) == len({mutant.breaks for mutant in MUTANTS})
    assert min(Counter(mutant.area for mutant in MUTANTS).values()) >= 4
