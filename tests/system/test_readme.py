"""What the README shows is what happens: its commands run here, and its output is the real one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.stripe_events import event, product, subscription
from tests.system.running import Service

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(name: str, language: str = "console") -> str:
    """Return the code block that the README marks with ``<!-- run: name -->``."""
    match = re.search(rf"<!-- run: {name} -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert match, f"README.md has no block {name}"
    return match[1]


def commands(name: str) -> str:
    return "\n".join(line.removeprefix("$ ") for line in block(name).splitlines() if line.startswith("$ "))


@pytest.fixture
def checkout(service: Service, tmp_path: Path) -> Path:
    """A folder that looks like a checkout in which ``make run`` is serving."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / ".ledger").symlink_to(service.folder)
    return tmp_path


def run(service: Service, checkout: Path, script: str) -> str:
    script = "set -eu\n" + script.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=checkout,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_is_true(service: Service, checkout: Path) -> None:
    service.start()
    shown = [re.escape(line).replace("…", r"\S+") for line in block("serve").splitlines()[1:]]
    printed = "".join(service.printed).replace(f":{service.port}", ":8000").replace(str(service.folder), ".ledger")
    assert re.fullmatch("\n".join(shown), printed.strip()), printed

    service.post(event("evt_1", "product.created", product(), created=1_768_478_000))
    bought = event("evt_2", "customer.subscription.created", subscription(items="si_1:prod_1*8"), created=1_768_478_010)
    service.post(bought)
    service.get("/v1/customers/cus_1/entitlements", min_position="2", wait="10")
    answered = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert answered is not None
    assert orjson.loads(run(service, checkout, commands("ask"))) == orjson.loads(answered[1])

    output = run(service, checkout, commands("status"))
    for text in ("self:live", "entitlements-1", "customer.subscription.created", "evt_2", "LEDGER_PORT"):
        assert text in output


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    marks = re.findall(r"(?:<!-- (run|not run): [^>]+ -->\n)?```console\n\$ (.*)", README)
    assert [command for mark, command in marks if not mark] == ["make test"]  # runs this very test
