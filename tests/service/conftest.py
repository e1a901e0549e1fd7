"""Services to ask (one for all tests of a module) and services to hurt (one for each test)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.harness import Service


@pytest.fixture
def service() -> Iterator[Service]:
    """A service of this test's own, not started yet."""
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="module")
def serving() -> Iterator[Service]:
    """A running service that the tests of a module share and do not hurt."""
    made = Service()
    try:
        made.start()
        yield made
    finally:
        made.close()
