"""How commands print: tables for people, JSON for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ledger.written import json_bytes


def show_json(content: Any, *, err: bool = False) -> None:
    """Print ``content`` as indented JSON, on standard error if standard output is in use."""
    stream = (sys.stderr if err else sys.stdout).buffer
    stream.write(json_bytes(content, indent=2) + b"\n")
    stream.flush()


def greet_in_json(told: dict[str, str]) -> None:
    """Print where a service is, and what it has generated: as JSON, once."""
    show_json({name.lower().replace(" ", "_"): value for name, value in told.items()})


def say_aside(text: str) -> None:
    """Print what a person may want to know on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - as commands print


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their column names, as wide as they need to be where nobody looks at a terminal."""
    # What is shown may come from outside: nothing of it is markup, an emoji's name, or told to the terminal.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else _shown(str(cell)) for cell in row))
    console.print(table)


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


class RateColumn(ProgressColumn):
    """How much is done a second."""

    def render(self, task: Task) -> Text:
        """Write the rate, once there is one."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


def progress_bar() -> Progress:
    """Make a progress bar for long work, on standard error; it shows nothing where nobody looks at a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
