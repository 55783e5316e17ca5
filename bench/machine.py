"""What a measurement ran on."""

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, memory, kernel, and the interpreter with what its build makes it cost."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count(),
        "memory": _field(Path("/proc/meminfo"), "MemTotal"),
        "kernel": platform.release(),
        "interpreter": interpreter(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def interpreter() -> dict[str, Any]:
    """Version and build of this interpreter.

    pgo, lto: None where the build does not say. shared: whether the program itself is linked to
    libpython, asked of the loaded objects since a distribution builds both kinds at once.
    """
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    profiled = str(sysconfig.get_config_var("PROFILE_TASK") or "")
    optimized = "--enable-optimizations" in arguments
    maps = Path("/proc/self/maps").read_text()
    return {
        "version": sys.version.replace("\n", " "),
        "pgo": True if optimized else (None if _is_distribution() and profiled else False),
        "lto": "--with-lto" in arguments or (None if _is_distribution() else False),
        "shared": "libpython" in maps,
    }


def commit(root: Path) -> str:
    """The commit of the work tree, with a mark where files of it differ."""
    sha = _git(root, "rev-parse", "HEAD").strip()
    product = ["gateway", "service", "registry", "pipelines", "triggers"]
    product += ["pipelines", "functions", "template", "sluice", "bench"]
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *product)
    return sha + (" with changes" if changed.strip() else "")


def _is_distribution() -> bool:
    return sys.base_prefix == "/usr"


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - git, with arguments of this file
        ["git", *arguments],  # noqa: S607 - the one on the path
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else "unknown"
