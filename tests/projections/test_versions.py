"""A projection that folds differently says so: its source may not change under one version."""

from __future__ import annotations

import ast
import gc
import importlib
import inspect

import pytest

from api.services import projections_of
from api.settings import Settings
from projections.certify import source_digest
from projections.contract import Projection

KNOWN = {
    ("entitlements", 12): "7cc464363085cda5d6da46b9e1e14199755b088315c115d0bf064c61ae551327",
    ("dunning", 8): "9f164d7293d521b7f6c2a7fc2717a52d55a45f3ef480fb6139e95274db0b5097",
    ("revenue", 13): "408324d7033152bc265669eeefa8092cd9bd382093ba8d66ea560edb168c9af7",
    ("periods", 8): "200505c5370678010af0bac00ff6a974ffdde774bc079f4b718ac70cc4651bd5",
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


def test_nothing_is_collected_while_source_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting: set[bool] = set()

    def parse(source: str) -> ast.Module:
        collecting.add(gc.isenabled())
        return read(source)

    read = ast.parse
    monkeypatch.setattr(ast, "parse", parse)
    source_digest(projections_of(Settings())[0])
    assert (collecting, gc.isenabled()) == ({False}, True)


def test_comments_and_docstrings_are_not_code(monkeypatch: pytest.MonkeyPatch) -> None:
    projection = projections_of(Settings())[0]
    before = source_digest(projection)
    read = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda module: read(module) + "\n# a remark\n")
    assert source_digest(projection) == before
    monkeypatch.setattr(inspect, "getsource", lambda module: read(module) + "\nmore = 1\n")
    assert source_digest(projection) != before
