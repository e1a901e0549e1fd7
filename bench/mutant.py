"""What a mutant is: one promise broken by a change of the source, and the tests that have to notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One promise broken: each old text stands once in the file, and the new one is put in its place."""

    area: str
    breaks: str
    path: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def mutant(area: str, breaks: str, path: str, old: str, new: str, *tests: str) -> Mutant:
    """Make a mutant of one change."""
    return Mutant(area, breaks, path, ((old, new),), tests)
