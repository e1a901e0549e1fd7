"""The client stands alone: it needs httpx and what httpx needs, and loads nothing else of the ledger."""

from __future__ import annotations

import subprocess
import sys

ALONE = """
import sys

ALLOWED = {"ledger", "httpx", "httpcore", "anyio", "h11", "idna", "certifi", "sniffio", "typing_extensions"}

class Refusing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ALLOWED or top.startswith("_"):
            return None
        raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refusing())
import ledger.client
from ledger.client import AsyncClient, Client

Client("http://127.0.0.1:9", "key").close()
loaded = {name for name in sys.modules if name.partition(".")[0] == "ledger"}
assert all(name == "ledger" or name.startswith("ledger.client") for name in loaded), loaded
print("alone")
"""


def test_it_is_imported_with_httpx_alone() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("alone\n", 0), done.stderr
