"""Schemathesis asks a running service everything its OpenAPI document allows, and much that it does not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.system.running import Service

SCHEMATHESIS: Final = str(Path(sys.executable).parent / "st")

# A position that is not folded yet, Stripe away and no key for Stripe are declared answers, not failures.
CONFIGURATION: Final = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "502", "503"]
"""
CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance"
)


def test_nothing_undeclared_is_answered(service: Service, tmp_path: Path) -> None:
    service.start()
    secret = service.credentials["webhook_secret"]
    hook = f"{service.url}/webhooks/stripe"
    made = service.run("simulate", "--customers", "8", "--months", "3", "--post", hook, "--secret", secret)
    assert made.returncode == 0, made.stderr
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [SCHEMATHESIS, "--config-file", str(tmp_path / "schemathesis.toml"), "run", f"{service.url}/openapi.json",
               "-H", f"Authorization: Bearer {service.credentials['api_key']}", "--no-color", "--seed", "1",
               "--phases", "coverage,fuzzing", "--max-examples", "4", "--checks", CHECKS,
               # One never ends, the others take no JSON; all have tests of their own.
               "--exclude-path", "/v1/entitlements/stream", "--exclude-path", "/v1/catalog/preview",
               "--exclude-method", "PUT"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-8_000:]
    assert not re.search(r"\b0 passed", done.stdout)
