"""The import rules: what may import what, and which module alone imports a library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bootctl", "health", "updated")
CORE_NEVER = {
    "asyncio", "ctypes", "fcntl", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}
ONLY_IN = {
    "tuf": ("updated/tufclient.py", "updated/publish/"),
    "securesystemslib": ("updated/publish/",),
    "requests": ("updated/http.py", "updated/punctual.py"),
    "urllib3": ("updated/http.py", "updated/punctual.py"),
    "parted": ("updated/provision.py",),
    "dbus_next": ("updated/bus/", "updated/cli/change.py"),
    "prometheus_client": ("updated/metrics.py",),
    "numpy": ("updated/publish/",),
}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def breaches(path: Path, allowed: tuple[str, ...]) -> list[str]:
    ours = [name for name in imports(path) if name.split(".")[0] in PACKAGES]
    return [name for name in ours if not name.startswith(allowed)]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_module_imports_only_what_its_layer_may(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = set(imports(path))
    tops = {each.split(".")[0] for each in found}
    if name.startswith("bootctl/"):
        assert not breaches(path, ("bootctl.",))
        assert tops <= {*sys.stdlib_module_names, "bootctl"}
    elif name.startswith("health/"):
        assert not breaches(path, ("health.", "bootctl."))
        assert tops <= {*sys.stdlib_module_names, "health", "bootctl"}
    elif name.startswith("updated/core/"):
        assert not breaches(path, ("updated.core.", "bootctl.model.", "bootctl.precedence."))
        assert tops <= {*sys.stdlib_module_names, "updated", "bootctl"}
        assert not tops & CORE_NEVER
    else:
        assert not breaches(path, ("updated.", "bootctl."))
    if name == "updated/ports.py":
        assert not breaches(path, ("updated.core.",))
    if name.startswith("updated/publish/"):
        shared = ("updated.core.", "updated.publish.", "updated.prefixed", "updated.record.", "updated.stored.")
        # What is mirrored or bundled is read as a node reads it.
        node = (
            "updated.directory.", "updated.http.", "updated.indexes.", "updated.ports.", "updated.trust.",
            "updated.tufclient.",
        )
        assert not breaches(path, (*shared, *node, "bootctl.durable", "bootctl.usage", "bootctl.version"))
    entry = name.startswith(("updated/cli/", "updated/publish/")) or name.endswith("__main__.py")
    if name.startswith("updated/") and not entry:
        assert not any(each.startswith(("updated.cli", "updated.publish")) for each in found)
    if name.startswith("updated/") and name not in ("updated/daemon.py", "updated/__main__.py", "updated/engine.py"):
        assert not any(each.startswith(("updated.engine", "updated.daemon")) for each in found)
    for library, homes in ONLY_IN.items():
        if library in tops:
            assert name.startswith(homes), f"{library} is imported outside of {homes}"


def test_fsync_and_rename_are_called_in_durable_alone() -> None:
    calls = {"fsync", "fdatasync", "rename", "replace", "renames", "syncfs", "sync"}
    for path in modules():
        if path == ROOT / "bootctl" / "durable.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in calls, f"{path}:{node.lineno} calls os.{node.attr}"


def loaded_by(*arguments: str) -> set[str]:
    code = "import sys; from importlib import import_module; [import_module(name) for name in sys.argv[1:]]; "
    code += "print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_daemon_loads_no_tuf_http_or_compression_library() -> None:
    loaded = loaded_by("updated.daemon", "updated.bus.service", "updated.metrics")
    assert not loaded & {"tuf", "requests", "urllib3", "securesystemslib", "cryptography", "zstandard", "parted"}


def test_seal_has_no_network_code() -> None:
    # python-tuf itself loads urllib3; nothing of ours that could reach a server is there.
    assert not loaded_by("updated.seal") & {"requests", "updated.http", "updated.fetch", "dbus_next"}


def test_status_loads_almost_nothing() -> None:
    heavy = {"asyncio", "dbus_next", "tuf", "requests", "prometheus_client", "cryptography", "logging", "parted"}
    assert not loaded_by("updated.cli.__main__", "updated.cli.show", "updated.cli.statusfile") & heavy


def test_health_loads_the_standard_library_and_bootctl_alone() -> None:
    assert not loaded_by("health.__main__") & {"updated", "tuf", "requests", "dbus_next", "zstandard"}
