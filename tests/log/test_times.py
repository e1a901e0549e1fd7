"""Times as RFC 3339 writes them, and nothing else that a reader of ISO 8601 would take."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ledger.times import parse_rfc3339


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-01-15", datetime(2026, 1, 15, tzinfo=UTC)),
        ("2026-01-15T12:00:00Z", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15t12:00:00z", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15 12:00:00Z", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15T12:00:00.25-01:30", datetime(2026, 1, 15, 13, 30, 0, 250_000, tzinfo=UTC)),
        ("2026-01-15T12:00:00.1234567Z", datetime(2026, 1, 15, 12, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_a_time_of_the_rfc_is_read(text: str, wanted: datetime) -> None:
    assert parse_rfc3339(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "2026-W03-4",
        "2026-W03-4T12:00:00Z",
        "2026W034",
        "2026-W03",
        "20260115",
        "20260115T120000Z",
        "2026-01-15T12Z",
        "2026-01-15T12:00Z",
        "2026-01-15T12:00:00",
        "2026-01-15T12:00:00+0100",
        "2026-01-15T12:00:00+01",
        "2026-01-15T12:00:00+01:00:30",
        "2026-01-15T12:00:00,5Z",
        "2026-01-15T12:00:00.Z",
        "2026-01-15x12:00:00Z",
        "2026-01-15Z",
        "2026-01-15T12:00:00+24:00",
        "2026-01-15T12:00:00+01:60",
        "2026-01-32",
        "2026-1-5",
        "2026-01",
        "",
        "now",
        "\u0662026-01-15",
        " 2026-01-15",
        "2026-01-15\n",
        "2026-01-15T12:00:00Z\n",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)
