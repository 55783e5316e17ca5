"""Finds the control groups that limit replicas: version 2 where this user has it, else version 1.

Every replica with a limit has a folder below a folder of this gateway's own, which is removed when
the gateway stops or, after it was killed, at its next start.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.providers.embedded.cgroup_trees import (
    Group,
    Groups,
    Legacy,
    Limits,
    Unified,
    empty,
    put,
    text,
    wanted,
)

__all__ = ["Group", "Groups", "Limits", "find_groups"]

LEAF: Final = "sluice-gateway"
ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def find_groups(data_dir: Path, root: Path = ROOT, own: Path = OWN) -> Groups | None:
    """The control groups that this process may use for `data_dir`, emptied, or None."""
    name = f"sluice-{sha256(os.fsencode(data_dir)).hexdigest()[:12]}"
    try:
        paths = dict(line.split(":", 2)[1:] for line in own.read_text().splitlines())
    except (OSError, ValueError):
        return None
    for find in (_unified, _legacy):
        with suppress(OSError):
            if groups := find(root, paths, name):
                return groups
    return None


def _unified(root: Path, paths: dict[str, str], name: str) -> Groups | None:
    if "memory" not in text(root / "cgroup.controllers").split():
        return None
    parent = root if os.geteuid() == 0 else root / paths.get("", "/").lstrip("/")
    folder = parent / name
    empty(folder)
    folder.mkdir()
    _enable(parent)
    put(folder / "cgroup.subtree_control", wanted(folder))
    return Unified(folder)


def _enable(parent: Path) -> None:
    """Pass memory and cpu on to the children of `parent`, which must then hold no process."""
    control = parent / "cgroup.subtree_control"
    if "memory" in text(control).split():
        return
    try:
        put(control, wanted(parent))
    except OSError:
        leaf = parent / LEAF
        leaf.mkdir(exist_ok=True)
        for process in text(parent / "cgroup.procs").split():
            with suppress(ProcessLookupError):
                put(leaf / "cgroup.procs", process)
        put(control, wanted(parent))


def _legacy(root: Path, paths: dict[str, str], name: str) -> Groups | None:
    folders: dict[str, Path] = {}
    for kinds, path in paths.items():
        for kind in {"memory", "cpu"} & set(kinds.split(",")):
            # In a container the path may be the host's, which does not exist there.
            own = root / kind / path.lstrip("/")
            folder = (own if own.is_dir() else root / kind) / name
            empty(folder)
            folder.mkdir()
            folders[kind] = folder
    return Legacy(folders) if "memory" in folders else None
