"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 4): "cd6f49da21ae5e07a4cf9812d0073a51e1034f978119048c294b09d50c9611e5",
    ("dunning", 1): "5dbcaa3e7bf33a5efdb1d3bbce0aa6ae45df61d803543f73112068639375c431",
    ("revenue", 1): "94ef14e003a616c57993374412841b6a40e42b3bc059b1a62871242218b07634",
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
