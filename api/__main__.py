"""The ``ledger`` program: what it consists of takes a moment to load, and Ctrl-C may come in that moment too."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Load the command line and run it."""
    # A shell that started it in the background may have made it ignore Ctrl-C: keep that.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _end)
    from api.cli import main as run

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end(*_: object) -> None:
    """End at once, as a command does that is interrupted: whoever is being imported cannot be unwound in order."""
    os.write(2, b"ledger: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
