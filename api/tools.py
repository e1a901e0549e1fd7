"""PostgreSQL's own tools, for backup and restore: the machine's where they fit the server, else the embedded ones.

The embedded ones speak no TLS. Tools read databases of their own release and of older ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast
from urllib.parse import unquote

from ledger.embedded import EmbeddedPostgres
from ledger.errors import LedgerError

_LOGIN: Final = re.compile(r"(postgres(?:ql)?://[^:@/?#]*):([^@/?#]*)@")

_RELEASE: Final = re.compile(r"\(PostgreSQL\) (\d+)")

_SCHEMA_IS_THERE: Final = b"ALTER SCHEMA ledger OWNER TO ledger_owner;\n"

_INSTEAD: Final = {
    # Said by tools from 17 on, refused by servers before 17, and so by default everywhere.
    b"SET transaction_timeout = 0;\n": b"",
    # Rights are restored last; but who is no superuser gives nobody a view in a schema where that one may make none.
    _SCHEMA_IS_THERE: _SCHEMA_IS_THERE + b"GRANT CREATE ON SCHEMA ledger TO ledger_builder;\n",
}
"""Lines of a dump, by what is run in their place."""

_OURS: Final = ("--schema=ledger", "--schema=build_*")
"""Others may keep something in the same database."""

_EMBEDDED_RELEASE: Final = 18


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools for one database: its address, and the release of its server (None: the embedded one)."""

    embedded: EmbeddedPostgres
    url: str
    release: int | None

    def dump(self, file: Path) -> None:
        """Write the database to a file. Raises ``LedgerError``."""
        with tempfile.TemporaryFile() as said:
            dumping = self._start("pg_dump", "--format=custom", f"--file={file}", *_OURS, said=said)
            _check("pg_dump", dumping, said)

    def restore(self, file: Path) -> None:
        """Fill the database from such a file, wholly or not at all. Raises ``LedgerError``."""
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answered:
            reading = self._start("pg_restore", "--file=-", str(file), said=said, stdout=subprocess.PIPE)
            options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
            writing = self._start("psql", *options, said=answered, stdin=subprocess.PIPE)
            pipes = cast("tuple[IO[bytes], IO[bytes]]", (reading.stdout, writing.stdin))
            with contextlib.suppress(BrokenPipeError), pipes[0] as lines, pipes[1] as script:
                script.write(b"BEGIN;\n")
                for line in lines:
                    script.write(_INSTEAD.get(line, line))
                    if line == _SCHEMA_IS_THERE:
                        break
                shutil.copyfileobj(lines, script)
                if reading.wait() == 0:
                    script.write(b"COMMIT;\n")
            _check("psql", writing, answered)
            _check("pg_restore", reading, said)

    def _start(self, program: str, *arguments: str, said: IO[bytes], **pipes: Any) -> subprocess.Popen[bytes]:
        # Whoever is on the machine sees the arguments of programs, so the password is none.
        login = _LOGIN.match(self.url)
        environment = os.environ | ({"PGPASSWORD": unquote(login[2])} if login else {})
        where = [] if program == "pg_restore" else ["--dbname=" + _LOGIN.sub(r"\1@", self.url)]
        return subprocess.Popen([*self._program(program), *where, *arguments], stderr=said, env=environment, **pipes)

    def _program(self, name: str) -> list[str]:
        # Whatever reads a dump reads those of older tools too, and connects to nothing.
        wanted = _EMBEDDED_RELEASE + 1 if name == "pg_restore" else self.release or 0
        found = shutil.which(name) if self.release is not None else None
        if found is not None:
            version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
            release = _RELEASE.search(version)
            if release is not None and int(release[1]) >= wanted:
                return [found]
        return self.embedded.program(name)


def _check(program: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    if process.wait() == 0:
        return
    said.seek(0)
    first = said.read().decode("utf-8", "replace").strip().partition("\n")[0]  # then come the statement and its tables
    owner = "; LEDGER_OWNER_DATABASE_URL is the owner's login" if "permission denied" in first else ""
    raise LedgerError(f"{program} failed: {first}{owner}")
