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
    ("entitlements", 10): "73f0e87a380d269b44b86d129116cfa81c379b3cdcc941ec53e566018b8725c0",
    ("dunning", 6): "1df4a7c1fde997a8b85a15c7f79973f52241da5e6f8f24261dc0d549d95f0155",
    ("revenue", 11): "1b1ab47bc7e477719cfeaead7ae99dd334abef980e5c9c1e7ce760295fa024aa",
    ("periods", 7): "58e1d1bbbf5b1570cf0f155be26a4d1a87407662eb97602307898c8524a0670b",
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
