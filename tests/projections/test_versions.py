"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 4): "a9d8c42aac25f5f4d905b6e2a18edf84169202ebb14479390bd65777135b81fd",
    ("dunning", 1): "46e039a808367d3a4274ff198c329be3b04cf72c33fb8c38a34c465562096e8a",
    ("revenue", 4): "5d78346d3d3aa33d7a093d8889fea574201dee0784ded27af563a0de2897cef3",
    ("periods", 2): "cf55f94a227dd7e1b752549de292da75bac1c84d7ea287f2db5fbf6fd4e3e5aa",
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
