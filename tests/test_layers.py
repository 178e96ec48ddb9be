"""The shape of the code: who may import whom, what the core may not touch, and that importing does nothing."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The parts of the package by layer, lowest first. Each part imports only from layers below; the modules of one part
# (a package is one, if it is not split here) may import each other.
LAYERS: list[list[set[str]]] = [
    [{"relay"}, {"relay.model"}, {"relay.fleet"}, {"relay.errors"}],
    [{"relay.config"}],
    [{"relay.core"}],
    [{"relay.metrics"}, {"relay.log"}],
    [
        {"relay.outbox"},
        {"relay.heap"},
        {"relay.upstream", "relay.connection", "relay.route", "relay.names"},
        {"relay.supervise"},
        {"relay.allocator"},
        {"relay.descriptors"},
    ],
    [{"relay.capture"}, {"relay.sender"}],
    [{"relay.proxy", "relay.front", "relay.reply", "relay.tee"}, {"relay.admin"}, {"relay.watch", "relay.last_good"}],
    [{"relay.app", "relay.build"}],
    [{"relay.sandbox"}],
    [{"relay.cli", "relay.__main__"}],
]
PLACES = {module: (layer, min(part)) for layer, parts in enumerate(LAYERS) for part in parts for module in part}

# What would make a decision depend on more than its arguments, or do more than return.
IMPURE_MODULES = {
    *("aiohttp", "asyncio", "concurrent", "ctypes", "http.client", "logging", "multiprocessing", "os", "pathlib"),
    *("prometheus_client", "random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "structlog"),
    *("subprocess", "tempfile", "tenacity", "threading", "time", "uuid", "warnings"),
}
IMPURE_CALLS = {
    "breakpoint",
    "input",
    "open",
    "print",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "date.today",
}

# Loads every module with an eye on what else happens; prints that as a JSON list.
IMPORT_ALL = """
import json, pkgutil, sys, threading

seen = []

def watch(event, arguments):
    acts = event.startswith(("socket.", "subprocess.", "sqlite3.", "os.fork", "os.posix_spawn", "_thread.", "shutil."))
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if acts or writes:
        seen.append(event)

sys.addaudithook(watch)
import relay
for module in pkgutil.walk_packages(relay.__path__, "relay."):
    if module.name != "relay.__main__":
        __import__(module.name)
seen += [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
from prometheus_client import REGISTRY
seen += [name for name in REGISTRY._names_to_collectors if name.startswith("relay")]
import asyncio
try:
    asyncio.get_running_loop()
    seen.append("a running event loop")
except RuntimeError:
    pass
print(json.dumps(seen))
"""


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in sorted((ROOT / "relay").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def place(module: str) -> tuple[int, str] | None:
    """The layer and the part of a module: its own, else its package's; the root package lends its place to nobody."""
    names = module.split(".")
    prefixes = [".".join(names[:length]) for length in range(len(names), 1, -1)] or [module]
    return next((PLACES[prefix] for prefix in prefixes if prefix in PLACES), None)


def imported(path: Path) -> Iterator[str]:
    """Every module that the file names in an import, wherever that stands; `from a import b` may name a or a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in submodules if name in MODULES]
            yield from known
            if len(known) < len(submodules):
                yield str(node.module)


def calls(path: Path) -> Iterator[str]:
    """Every call in the file by the last two names of what is called, "datetime.now"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:])


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_place_in_the_table(module: str) -> None:
    assert place(module) is not None


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_layers_below_its_own(module: str) -> None:
    layer, part = place(module) or (0, "")

    for name in imported(MODULES[module]):
        if name.partition(".")[0] == "relay" and (other := place(name)):
            assert other[0] < layer or other[1] == part, f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("relay.core")])
def test_the_core_touches_nothing_outside_itself(module: str) -> None:
    names = {prefix for name in imported(MODULES[module]) for prefix in (name, name.partition(".")[0])}

    assert not names & IMPURE_MODULES
    assert not set(calls(MODULES[module])) & IMPURE_CALLS
    assert not any(
        isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.Global)
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
    )


def test_importing_every_module_does_nothing() -> None:
    """No thread, no socket, no file written, no metric in the global registry."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
