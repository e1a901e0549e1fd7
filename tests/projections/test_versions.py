"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 4): "87e13a367be17b056c337ba0e8659ed8a0654fe0389ff3f5c50767dfa059c1b4",
    ("dunning", 1): "f2a97030820eab0dcadf0dc6cc5b4b73ef5b0f44c976202b226d0df40545dc29",
    ("revenue", 4): "ed64655e56388e66bc5881b1a6707c5f701c9977093c8f09e49f42b10935eb6a",
    ("periods", 4): "80076837b1f44c2a47172ea001ba13a3ce4283955a4e76b01ea26c50cd4d99ac",
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
