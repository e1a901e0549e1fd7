"""Keeping very many objects: Python would look for garbage among them again and again, and there is none."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def kept(make: Callable[[], T]) -> Iterator[T]:
    """Make them without a look, and keep them from every look until they are needed no more."""
    gc.disable()
    try:
        made = make()
    finally:
        gc.enable()
    gc.freeze()
    try:
        yield made
    finally:
        gc.unfreeze()
