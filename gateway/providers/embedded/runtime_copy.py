"""Copies the code that runs in every function's process out of the gateway's installation."""

import hashlib
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Final

from gateway.building.bytecode import compile_folder
from gateway.folders import publish

PACKAGES: Final = ("sluice",)
# The command; its libraries are not in a function's environment.
LEFT_OUT: Final = (Path("sluice", "cli"), Path("sluice", "__main__.py"))


def sources(packages: Sequence[str] = PACKAGES) -> dict[str, Path]:
    """Where the packages are installed."""
    found: dict[str, Path] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"package {package} is not installed", name=package)
        found[package] = Path(spec.submodule_search_locations[0])
    return found


def copy_runtime(folder: Path, packages: dict[str, Path]) -> Path:
    """`folder`/HASH with the packages' modules but those of LEFT_OUT; other copies are removed.

    Must be called when no replica runs: one could still use an older copy.
    """
    files = {
        name: path.read_bytes()
        for package, source in sorted(packages.items())
        for path in sorted(source.rglob("*.py"))
        if not _is_left_out(name := Path(package, path.relative_to(source)))
    }
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    copy = folder / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.iterdir():
        if other != copy:
            shutil.rmtree(other, ignore_errors=True)
    if not copy.is_dir():
        _write(copy, files)
    return copy


def _is_left_out(name: Path) -> bool:
    return any(name == one or one in name.parents for one in LEFT_OUT)


def _write(copy: Path, files: dict[Path, bytes]) -> None:
    staged = copy.with_name(f".new-{token_hex(8)}")
    for name, content in files.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    # Replicas see the copy read-only and would compile what no zygote has imported at each start:
    # sluice.ml took 9 ms of every start of predict.
    compile_folder(staged)
    publish(staged, copy)
