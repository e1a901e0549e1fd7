"""The console's pages, in the navigation's order: a new page's list is added here."""

from __future__ import annotations

from typing import Final

from api.console import (
    books,
    builds,
    cases,
    checks,
    customers,
    downloads,
    log,
    overview,
    periods,
    projections,
    revenue,
    settings,
)
from api.console.frame import Page

PAGES: Final[tuple[Page, ...]] = (
    *overview.PAGES,
    *customers.PAGES,
    *revenue.PAGES,
    *books.PAGES,
    *periods.PAGES,
    *downloads.PAGES,
    *cases.PAGES,
    *log.PAGES,
    *projections.PAGES,
    *builds.PAGES,
    *settings.PAGES,
    *checks.PAGES,
)
