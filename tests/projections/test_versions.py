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
    ("entitlements", 10): "bbc39d32d8fd5f0a7544caa795bc6721f4beb5ab0c3d1dd098c7bd67389efdd2",
    ("dunning", 6): "d7772f963c0cbbe3270117c15b085da1c1546fe96d584cebe451e68b572f6d6b",
    ("revenue", 11): "1d0668f59b39ea7dcfd8c52a1e1f6153bb7cc58b71224401055f96c443ed7af5",
    ("periods", 7): "15ec7b13f94f7785d23644656020760039eaecf11db6877efed30752493ec60b",
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
