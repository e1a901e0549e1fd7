"""What commands print for people: as it is, whatever it holds."""

from __future__ import annotations

import pytest

from api.output import show_table


def test_a_cell_is_text_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [
        "[live:|test:][acct_…:]whsec_…",
        "a:admin[@book]:hex",
        "[/red]",
        "self:live:smile:",
        "\x1b[2J\x07gone",
        "é\n2",
    ]
    show_table(["what"], [[cell] for cell in cells])
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown == ["what", *cells[:4], "\ufffd[2J\ufffdgone", "é", "2"]
