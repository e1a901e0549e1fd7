"""The fenced blocks of the documentation, and how what they show is compared with what happens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
LANGUAGES: Final = frozenset({"console", "json", "python", "sql", "story", "text", "toml"})
"""What a block may be. ``text`` is a picture or a form that nothing runs."""

_FENCE: Final = re.compile(r"```(.*)")
_MARK: Final = re.compile(r"<!-- (run|not run): (.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: where it stands, what it holds, and what the comment in the line before says of running it."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    """``run`` (by the test that ``said`` names), ``not run`` (``said`` is why), or nothing: it is run here."""
    said: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[tuple[str, str]]:
        """Return each command of a console block (``\\`` goes on in the next line) with the output shown below it."""
        found: list[list[str]] = []
        goes_on = False
        for line in self.text.splitlines():
            if goes_on:
                found[-1][0] += f"\n{line}"
            elif line.startswith("$ "):
                found.append([line.removeprefix("$ "), ""])
            else:
                found[-1][1] += f"{line}\n"
            goes_on = line.endswith("\\") and (goes_on or line.startswith("$ "))
        return [(command, shown) for command, shown in found]


def blocks_of(page: str) -> list[Block]:
    """Return a page's blocks, in order."""
    lines = (ROOT / page).read_text().splitlines()
    found, at = [], 0
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        if fence is not None:
            end = lines.index("```", at + 1)
            mark = _MARK.fullmatch(lines[at - 1]) if at else None
            text = "\n".join(lines[at + 1 : end]) + "\n"
            found.append(Block(page, at + 1, fence[1], text, *(mark.groups() if mark else ())))
            at = end
        at += 1
    return found


def matches(shown: str, printed: str) -> bool:
    """Tell whether output is as shown: space does not count, and ``…`` stands for anything."""
    parts = ("".join(part.split()) for part in shown.split("…"))
    return re.fullmatch(".*".join(map(re.escape, parts)), "".join(printed.split())) is not None
