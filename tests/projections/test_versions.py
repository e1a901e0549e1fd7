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
    ("entitlements", 5): "e28e1c53522dea1286de26e0e843c15c1609d73b92b40e21842fcfeed774eba2",
    ("dunning", 2): "4fa31acfb395db440a3a0972617d6e5bcefd43b73dcffe20631ec98b1c520309",
    ("revenue", 6): "65e9536e568848943e2970a13f19d58ec409cc8974cb0922e89e0bdd9624a648",
    ("periods", 5): "206b931470e0567cb8f85399e27ce171db361940084b31f82e4148e884021028",
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
