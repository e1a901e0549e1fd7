"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 4): "09601871b32645443da872d318f26218f38392972e2aa82815d101b6992bf4cd",
    ("dunning", 1): "fa951a6153b0b372b27a85e8e9569a87436c00b4acb9aaa26d0ceec0d62e1fc5",
    ("revenue", 4): "bc00823b9e03acd3d4b516ff5cd4a8b2f7664c74fe648f0e424d8a1d8d352e56",
    ("periods", 3): "e252cac335fbc63c48f2fe2808d94c4cf1ba0736c6cdc7cc103409ded08a4b6a",
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
