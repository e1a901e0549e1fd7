"""House rules that matter: who may import whom, what stays pure, what is never in money, how large a room may be."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ledger", "projections", "api")

MAY_IMPORT = {"ledger": {"ledger"}, "projections": {"projections", "ledger"}, "api": {"api", "projections", "ledger"}}

GPL = {"localstripe", "pymerkle", "beancount"}
"""Packages only tests may use, as outside programs or peers."""

SHELL = {
    "ledger": {
        "append_call", "appender", "client", "client.aio", "client.options", "client.sync", "codec", "conflicts",
        "decisions", "dictionary", "embedded", "erasure", "export", "flush", "fork", "identity", "importing", "migrate",
        "notary", "offline_verify", "outside", "postgres", "priority", "reader", "recorder", "simulated", "tasks",
        "tiles", "verify", "wakeup",
    },
    "projections": {
        "ahead", "builds", "certify", "claims", "compare", "follower", "forgetting", "joining", "leases", "parts",
        "promotion", "reading", "rebuild", "recall", "refold", "rivals", "runner", "stored_links", "stored_terms",
        "traces", "warm", "writing",
        "dunning.query",
        "entitlements.changes", "entitlements.feed", "entitlements.holdings", "entitlements.known",
        "entitlements.preview", "entitlements.query", "entitlements.saying", "mrr.known", "mrr.query", "periods.ageing",
        "periods.bridge", "periods.closing", "periods.effective", "periods.entries", "periods.kept", "periods.lines",
        "periods.moved", "periods.movements", "periods.owners", "periods.query", "periods.recalled", "periods.sums",
        "periods.totals", "periods.unpaid", "periods.worth", "revenue.dossier", "revenue.owed", "revenue.pages",
        "revenue.pieces", "revenue.query",
    },
}  # fmt: skip
"""The rooms that touch the world. Every other room of these packages is pure; ``api`` is all shell."""

IMPURE = {
    "asyncio", "asyncpg", "os", "pathlib", "psutil", "random", "secrets", "socket", "starlette",
    "stripe", "structlog", "subprocess", "tempfile", "threading", "time", "uuid", "zstandard", "eventsourcing",
}  # fmt: skip

PURE = "eventsourcing.domain"
"""The part of the library that aggregates are made of: ours read no clock through it."""

SIMULATOR = "ledger.simulator"
"""Plays Stripe: its own world, seeded and clock-driven, which no other room may use."""


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all there is in a file."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@pytest.fixture(scope="module", autouse=True)
def parsed() -> Iterator[None]:
    """Every file is parsed once, and forgotten when all rules have seen it."""
    yield
    nodes.cache_clear()


def imports(path: Path) -> set[str]:
    """Return the modules a file imports anywhere, except for types alone."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_api_projections_ledger_and_never_back(package: str) -> None:
    for module, path in modules(package):
        backwards = (tops(imports(path)) & set(PACKAGES)) - MAY_IMPORT[package]
        assert not backwards, f"{module} imports {backwards}"


@pytest.mark.parametrize("package", PACKAGES)
def test_shipped_code_imports_no_gpl_package_and_no_tests(package: str) -> None:
    for module, path in modules(package):
        assert not tops(imports(path)) & (GPL | {"tests", "pytest", "hypothesis"}), module


@pytest.mark.parametrize("package", SHELL)
def test_pure_rooms_stay_pure(package: str) -> None:
    shell = {f"{package}.{room}" for room in SHELL[package]}
    names = dict(modules(package))
    assert shell <= set(names), "a room in this table is gone"
    for module, path in names.items():
        if module in shell or module.startswith(SIMULATOR):
            continue
        found = {name for name in imports(path) if not name.startswith(PURE)}
        assert not tops(found) & IMPURE, f"{module} imports {tops(found) & IMPURE}"
        assert not found & shell, f"{module} reaches into a shell room"
        assert not _reads_a_clock(path), f"{module} reads a clock"


def _reads_a_clock(path: Path) -> bool:
    calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
    return any(isinstance(func, ast.Attribute) and func.attr in ("now", "utcnow", "today") for func in calls)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_simulator_is_nobodys_dependency(package: str) -> None:
    for module, path in modules(package):
        if not module.startswith((SIMULATOR, "api.commands.simulate", "api.posting")):
            assert not any(name.startswith(SIMULATOR) for name in imports(path)), module


@pytest.mark.parametrize("package", ["ledger", "projections"])
def test_no_float_where_money_could_be(package: str) -> None:
    for module, path in modules(package):
        for node in nodes(path):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
            assert not called, f"{module} calls float()"


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_and_functions_are_small(package: str) -> None:
    for module, path in modules(package):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, f"{module} has more than 400 lines"
        for node in nodes(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= 70, f"{module}.{node.name} has {lines} lines"


def test_packages_are_named_explicitly() -> None:
    import tomllib

    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert named == found
