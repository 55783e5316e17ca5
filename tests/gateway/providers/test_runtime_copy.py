"""What a function's process is given of ours."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from gateway.providers.embedded.runtime_copy import copy_runtime, sources


def test_the_copy_is_the_package_without_the_command_and_nothing_else(tmp_path: Path) -> None:
    copy = copy_runtime(tmp_path, sources())
    assert [entry.name for entry in copy.iterdir()] == ["sluice"]
    package = copy / "sluice"
    folders = {entry.name for entry in package.iterdir() if entry.is_dir()} - {"__pycache__"}
    assert folders == {"client", "http1", "labels", "ml", "runtime", "settings"}
    assert "__main__.py" not in {entry.name for entry in package.iterdir()}
    installed = sources()["sluice"]
    expected = {
        path.relative_to(installed)
        for path in installed.rglob("*.py")
        if path.relative_to(installed).parts[0] not in {"cli", "__main__.py"}
    }
    bytecode = set(package.rglob("*.pyc"))
    files = {path for path in package.rglob("*") if path.is_file()} - bytecode
    assert {path.relative_to(package) for path in files} == expected


def test_the_copy_is_compiled_so_that_no_start_compiles_it(tmp_path: Path) -> None:
    """Replicas see it read-only: what a zygote has not imported would be compiled each time."""
    package = copy_runtime(tmp_path, sources()) / "sluice"
    for module in package.rglob("*.py"):
        assert Path(importlib.util.cache_from_source(str(module))).is_file(), module


def test_the_copy_serves_both_imports_and_starts_the_runtime(tmp_path: Path) -> None:
    copy = copy_runtime(tmp_path, sources())
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sluice import Client, Event, batch\n"
        "import sluice, sluice.runtime.main\n"
        "print(sluice.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(copy / "sluice" / "__init__.py")


def test_the_same_sources_are_copied_once_and_an_older_copy_goes(tmp_path: Path) -> None:
    (tmp_path / "older").mkdir()
    first = copy_runtime(tmp_path, sources())
    made = first.stat().st_ino
    assert copy_runtime(tmp_path, sources()) == first
    assert first.stat().st_ino == made
    assert [entry.name for entry in tmp_path.iterdir()] == [first.name]
