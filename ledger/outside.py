"""What is kept outside the database: log checkpoints, appended as they are signed, and the keys that signed them.

Whoever changes the database cannot change these files with it; ``ledger verify`` holds the log against them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ledger.note import NoteError, VerifierKey, parse_checkpoint, parse_note, parse_verifier_key, split_notes

CHECKPOINTS_FILE: Final = "checkpoints.log"
KEYS_FILE: Final = "verifier-keys.txt"


class Outside:
    """Folders outside the database, each with a copy of every checkpoint and verifier key."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._sizes: dict[tuple[Path, str], int] = {}

    def notes(self) -> list[str]:
        """Return every signed note any of the folders holds, each once, oldest first."""
        found: dict[str, None] = {}
        for folder in self.folders:
            found.update(dict.fromkeys(_notes_in(folder)))
        return list(found)

    def keys(self) -> list[VerifierKey]:
        """Return every verifier key any of the folders names. Raises ``NoteError`` for one that is damaged."""
        lines = [line for folder in self.folders for line in _lines(folder / KEYS_FILE)]
        return [parse_verifier_key(line) for line in dict.fromkeys(lines)]

    def remember_key(self, key: VerifierKey) -> None:
        """Add a key to every folder that does not have it."""
        for folder in self.folders:
            if key.encode() not in _lines(folder / KEYS_FILE):
                _append(folder / KEYS_FILE, f"{key.encode()}\n")

    def published(self, origin: str) -> int:
        """Return up to which size an origin's checkpoints are in every folder."""
        return min((self._published_in(folder, origin) for folder in self.folders), default=2**63 - 1)

    def newest(self, origin: str) -> int:
        """Return the largest size of an origin that any folder has seen signed; 0 where none has."""
        return max((self._published_in(folder, origin) for folder in self.folders), default=0)

    def publish(self, origin: str, notes: Sequence[tuple[int, str]]) -> None:
        """Append an origin's notes, given with their sizes in order, durably to every folder that lacks them."""
        for folder in self.folders:
            size = self._published_in(folder, origin)
            missing = [(number, note) for number, note in notes if number > size]
            if missing:
                _append(folder / CHECKPOINTS_FILE, "".join(f"{note}\n" for _, note in missing))
                self._sizes[folder, origin] = missing[-1][0]

    def _published_in(self, folder: Path, origin: str) -> int:
        # The file is read once: it grows for years, and we are the ones who append to it.
        if (folder, origin) not in self._sizes:
            self._sizes[folder, origin] = _newest_size(_notes_in(folder), origin)
        return self._sizes[folder, origin]


def _newest_size(notes: Iterable[str], origin: str) -> int:
    sizes = [0]
    for note in notes:
        try:
            checkpoint = parse_checkpoint(parse_note(note).text)
        except NoteError:
            continue  # for verify to complain about
        if checkpoint.origin == origin:
            sizes.append(checkpoint.size)
    return max(sizes)


def _notes_in(folder: Path) -> list[str]:
    try:
        return list(split_notes((folder / CHECKPOINTS_FILE).read_text("utf-8")))
    except FileNotFoundError:
        return []


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    except FileNotFoundError:
        return []


def _append(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        # A write that a crash cut short must not swallow the next note: that one starts after an empty line.
        torn = "" if not out.tell() or file.suffix != ".log" or _ends_in_empty_line(file) else "\n\n"
        out.write((torn + text).encode())
        out.flush()
        os.fsync(out.fileno())


def _ends_in_empty_line(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - 2))
        return content.read() == b"\n\n"
