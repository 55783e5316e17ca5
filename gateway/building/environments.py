"""Makes the virtual environment of a lock in a folder: what every target gives its functions."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from gateway.building import bytecode
from gateway.building.child import Report, python_command, run_child
from gateway.building.distributions import import_names
from gateway.building.locking import Lock
from gateway.building.requirements import RUNTIME
from gateway.building.uv import Uv

LOCK_FILE: Final = "requirements.txt"
MOST_COMPILERS: Final = 4


async def make_environment(uv: Uv, folder: Path, lock: Lock, report: Report) -> None:
    """Make the environment of a lock in `folder`, its modules compiled. Raises BuildError.

    It cannot be moved afterwards: its scripts hold its path.
    """
    await uv.make_environment(folder, report)
    lock_file = folder / LOCK_FILE
    await asyncio.to_thread(lock_file.write_text, lock.text)
    await uv.install(folder, lock_file, lock.demand.sdists, report)
    await report("Compiling modules")
    await compile_modules(_site_packages(folder), report)


def preload_modules(folder: Path, lock: Lock) -> tuple[str, ...]:
    """Modules of an environment that a zygote imports: those asked for by name.

    The runtime's own are left out, since it imports them anyway.
    """
    names = {wanted.name for wanted in lock.demand.wanted} - set(RUNTIME)
    return import_names(_site_packages(folder), names)


async def compile_modules(folder: Path, report: Report) -> None:
    """Write the bytecode of all modules below `folder`, on as many processors as there are."""
    parts = min(os.cpu_count() or 1, MOST_COMPILERS)
    async with asyncio.TaskGroup() as group:
        for part in range(parts):
            command = python_command(bytecode.__file__, folder, str(part), str(parts))
            group.create_task(run_child(command, {}, report))


def _site_packages(folder: Path) -> Path:
    major, minor = sys.version_info[:2]
    return folder / "lib" / f"python{major}.{minor}" / "site-packages"
