"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import importlib
import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 5): "9001d37a7e615e69c2201abb82a12b81a2c967e1b673c361dea91e661ada665c",
    ("dunning", 2): "b15c3f91f80bc76f602fe738796992ea541d79a3e2b5dab980b63015bc78911c",
    ("revenue", 5): "a3f3d46dd748689e6f12b592922f1609e290583d144ade1862890a022780973f",
    ("periods", 4): "3bd71d58c2de46af8293432d58f43082cca77e13d242ab3f3f02772c5e8b04e1",
}
"""What each version's code was. Code that means the same may be entered anew; code that folds differently is a new
version, so that builds of the old one are not taken for it."""


@pytest.mark.parametrize("projection", projections_of(Settings()), ids=lambda one: one.name)
def test_a_changed_fold_is_a_new_version(projection: Projection) -> None:
    assert source_digest(projection) == KNOWN[projection.name, projection.version], (
        f"the code that folds {projection.name} has changed: bump its version if it folds differently, then enter "
        f"{source_digest(projection)} here"
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("entitlements", "projections.shapes.subscription"),
        ("dunning", "projections.mrr.worth"),
        ("revenue", "projections.revenue.gather"),
        ("revenue", "projections.mrr.amounts"),
        ("revenue", "projections.shapes.invoice"),
    ],
)
def test_whatever_a_fold_rests_on_is_its_code(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    [projection] = [one for one in projections_of(Settings()) if one.name == name]
    before, read = source_digest(projection), inspect.getsource
    changed = importlib.import_module(module)
    monkeypatch.setattr(inspect, "getsource", lambda one: read(one) + ("\nmore = 1\n" if one is changed else ""))
    assert source_digest(projection) != before


def test_comments_and_docstrings_are_not_code(monkeypatch: pytest.MonkeyPatch) -> None:
    projection = projections_of(Settings())[0]
    before = source_digest(projection)
    read = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda module: read(module) + "\n# a remark\n")
    assert source_digest(projection) == before
    monkeypatch.setattr(inspect, "getsource", lambda module: read(module) + "\nmore = 1\n")
    assert source_digest(projection) != before
