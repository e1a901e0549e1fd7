"""A headless Chromium, and the demo company served to it by a process of its own."""

from __future__ import annotations

import shutil
from typing import Final

FLAGS: Final = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
WIDE: Final = (1440, 900)
NARROW: Final = (390, 844)


def _chromium() -> tuple[str, str] | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    return None if None in found else (str(found[0]), str(found[1]))
