"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 4): "942a6e07c52ba807e830d87a61dff35ea535e01d864a7308117465e203440dc7",
    ("dunning", 1): "3f1983cee337a614cfb4ec9170365ef9eb74c39e2fc361e83e36e4230f20103e",
    ("revenue", 1): "6e18f65e96d71b183f05a42b250a6e9289ed5f2f431c628c9eeb68394bae9e06",
    ("periods", 1): "177324e38c71f3a1e893bdd3ee8970bad76f17a7994429c96f6a65f2796be123",
}
"""What each version's code was. Code that means the same may be entered anew; code that folds differently is a new
version, so that builds of the old one are not taken for it."""


@pytest.mark.parametrize("projection", projections_of(Settings()), ids=lambda one: one.name)
def test_a_changed_fold_is_a_new_version(projection: Projection) -> None:
    assert source_digest(projection) == KNOWN[projection.name, projection.version], (
        f"the code that folds {projection.name} has changed: bump its version if it folds differently, then enter "
        f"{source_digest(projection)} here"
    )


def test_comments_and_docstrings_are_not_code(monkeypatch: pytest.MonkeyPatch) -> None:
    projection = projections_of(Settings())[0]
    before = source_digest(projection)
    read = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda module: read(module) + "\n# a remark\n")
    assert source_digest(projection) == before
    monkeypatch.setattr(inspect, "getsource", lambda module: read(module) + "\nmore = 1\n")
    assert source_digest(projection) != before
