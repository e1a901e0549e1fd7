"""A running service: ``ledger serve`` in a folder of its own, asked and killed from outside."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import orjson
import psutil

from api import cli
from ledger.embedded import EmbeddedPostgres
from tests.stripe_events import body_of, signature

COMMAND = [str(Path(sys.executable).parent / "ledger")]

PATH_WITHOUT_POSTGRES = os.pathsep.join(
    folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "postgres").exists()
)


def free_port() -> int:
    """Find a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def words_of(process: psutil.Process) -> list[str]:
    """Return how a process was started; nothing of one that has ended meanwhile."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


class Service:
    """One service over several lives: start it, stop it, kill it, start it again on the same data."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {
            "PATH": PATH_WITHOUT_POSTGRES,
            "LEDGER_DATA_DIR": str(folder),
            "LEDGER_PORT": str(self.port),
            **settings,
        }
        self.process: subprocess.Popen[str] | None = None
        self.printed: list[str] = []
        self._client = httpx.Client(timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        content: dict[str, str] = orjson.loads((self.folder / "credentials.json").read_bytes())
        return content

    @property
    def embedded(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.folder)

    def start(
        self, last_line: str = "data ", arguments: Sequence[str] = ("serve",), command: Sequence[str] = tuple(COMMAND)
    ) -> None:
        """Start the service and wait until it has said that it serves."""
        self.launch(arguments, command)
        self.until(lambda: any(last_line in line for line in self.printed), "the service to say that it serves")

    def launch(self, arguments: Sequence[str] = ("serve",), command: Sequence[str] = tuple(COMMAND)) -> None:
        """Start the service and wait for nothing."""
        self.printed = []
        self.process = subprocess.Popen(
            [*command, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._collect, args=(self.process,), daemon=True).start()

    def _collect(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            self.printed.extend(lines)

    def stop(self) -> int:
        """Press Ctrl-C and return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        self.process = None
        return status

    def kill(self) -> None:
        """Kill the service as ``kill -9`` does, and wait until its children have followed it."""
        assert self.process is not None
        children = self.children()
        self.process.kill()
        self.process.wait()
        self.process = None
        _, alive = psutil.wait_procs(children, timeout=15)
        assert not alive, f"children outlived the service: {alive}"

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "api.processes" in words_of(child)
        ]

    def close(self) -> None:
        """End whatever is left of the service and of its PostgreSQL, at once: nobody needs its data any more."""
        self._client.close()
        if self.process is not None and self.process.poll() is None:
            children = self.children()
            self.process.kill()
            self.process.wait()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, timeout=15)
        self.process = None
        if self.embedded.postmaster():
            self.embedded.stop("immediate")

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run another ``ledger`` command on the same data, in this process: most of a short one is its imports."""
        written, complained = io.BytesIO(), io.StringIO()
        said = io.TextIOWrapper(written, "utf-8")
        with (
            patch.dict(os.environ, self.environment | settings, clear=True),
            patch.object(sys, "argv", [*COMMAND, *arguments]),
            patch.object(sys, "stdout", said),
            patch.object(sys, "stderr", complained),
        ):
            try:
                cli.main()
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
            said.flush()
        return subprocess.CompletedProcess(arguments, status, written.getvalue().decode(), complained.getvalue())

    def run_apart(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run another ``ledger`` command on the same data, in a process of its own."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start another ``ledger`` command on the same data, to be killed."""
        return subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def close_client(self) -> None:
        """Close the connections to the service, and leave it running."""
        self._client.close()

    def post(self, content: Any, *, secret: str | None = None, client: httpx.Client | None = None) -> httpx.Response:
        """Send a webhook, signed now."""
        body = content if isinstance(content, bytes) else body_of(content)
        headers = signature(body, datetime.now(UTC), secret or self.credentials["webhook_secret"])
        sender = client or self._client
        return sender.post(f"{self.url}/webhooks/stripe", content=body, headers=headers, timeout=30)

    def get(self, path: str, **asked: str) -> httpx.Response:
        """Read with the generated key."""
        headers = {"Authorization": f"Bearer {self.credentials['api_key']}"}
        return self._client.get(f"{self.url}{path}", params=asked or None, headers=headers)

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask for a change with the generated key."""
        headers = {"Authorization": f"Bearer {self.credentials['api_key']}"}
        return self._client.request(method, f"{self.url}{path}", json=body, headers=headers)

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 40) -> None:
        """Wait until something holds, and fail with what was printed when it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if holds():
                return
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {what}; the service printed:\n{''.join(self.printed)}")
