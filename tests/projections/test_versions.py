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
    ("dunning", 8): "b65eca55b714fa5e947669bd71c19045a2b797fdd8743d852ab244a43b3b6f1f",
    ("revenue", 13): "5ad9be67a62485d491c731dd3f9af12c6a1b1dfc7a86246c21c05b3f652125c9",
    ("periods", 8): "682cdd341acb8a907a9cb8b96959622279e0d7b6b27eb3e132114c4923c5a52b",
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
