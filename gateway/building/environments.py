"""Makes one virtual environment for each lock, and gives it to every bundle of that lock.

A virtual environment cannot be moved, so it is made in its final place: under a lock file, with a
marker written last. One without a marker is removed, by the build that failed or at the next start.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from gateway import folders
from gateway.building import bytecode
from gateway.building.child import Report, python_command, run_child
from gateway.building.distributions import import_names
from gateway.building.locking import (
    Demand,
    interpreter_identity,
    keep_accepted_hashes,
    lock_key,
    resolution_key,
)
from gateway.building.requirements import RUNTIME
from gateway.building.uv import Uv
from gateway.providers.embedded.bundles import MARKER, Bundles

LOCK_FILE: Final = "requirements.txt"
MOST_COMPILERS: Final = 4


class Environments:
    """The environments of one data folder."""

    def __init__(self, bundles: Bundles, uv: Uv) -> None:
        self._bundles, self._uv = bundles, uv
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def resolve(self, demand: Demand, work: Path, report: Report) -> str:
        """The lock of a demand; the same demand again needs no network. work: a scratch folder.

        Raises BuildError, RequirementError.
        """
        key = resolution_key(demand, self._uv.indexes)
        async with self._alone(key):
            known = None if demand.refresh else self._bundles.store.resolution(key)
            if known is not None:
                await report("Requirements were resolved by an earlier build")
                return known
            files = await asyncio.to_thread(_write_requirements, demand, work)
            lock = await self._uv.resolve(files, demand.wanted, demand.sdists, report)
            lock = keep_accepted_hashes(lock, demand.wanted)
            await asyncio.to_thread(self._bundles.store.keep_resolution, key, lock_key(lock), lock)
        await report(f"Resolved {lock.count('==')} packages")
        return lock

    async def prepare(self, lock: str, sdists: bool, report: Report) -> None:
        """Have the environment of `lock` made if it is not there; durable on return.

        Builds that need the same one wait for each other. Raises BuildError.
        """
        key = lock_key(lock)
        async with self._alone(key), _file_lock(self._bundles.environment_lock(key)):
            if self._bundles.has_environment(key):
                await report(f"Environment {key[:12]} is there already")
                return
            await report(f"Making environment {key[:12]}")
            await self._make(self._bundles.environment(key), lock, sdists, report)

    def preload(self, demand: Demand, key: str) -> tuple[str, ...]:
        """Modules that a zygote of the environment imports: those asked for by name.

        The runtime's own are imported anyway.
        """
        names = {wanted.name for wanted in demand.wanted} - set(RUNTIME)
        return import_names(_site_packages(self._bundles.environment(key)), names)

    async def _make(self, folder: Path, lock: str, sdists: bool, report: Report) -> None:
        try:
            await asyncio.to_thread(folders.remove, folder)
            await self._uv.make_environment(folder, report)
            lock_file = folder / LOCK_FILE
            await asyncio.to_thread(lock_file.write_text, lock)
            await self._uv.install(folder, lock_file, sdists, report)
            await report("Compiling modules")
            await compile_modules(_site_packages(folder), report)
            await asyncio.to_thread(_complete, folder)
        except BaseException:
            # A cancelled build too: the next one starts from nothing.
            await asyncio.shield(asyncio.to_thread(folders.remove, folder))
            raise

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        lock = self._busy.setdefault(key, asyncio.Lock())
        async with lock:
            yield


async def compile_modules(folder: Path, report: Report) -> None:
    """Write the bytecode of all modules below `folder`, on as many processors as there are."""
    parts = min(os.cpu_count() or 1, MOST_COMPILERS)
    async with asyncio.TaskGroup() as group:
        for part in range(parts):
            command = python_command(bytecode.__file__, folder, str(part), str(parts))
            group.create_task(run_child(command, {}, report))


def _write_requirements(demand: Demand, work: Path) -> list[Path]:
    path = work / "requirements.in"
    path.write_text("".join(f"{wanted.text}\n" for wanted in demand.wanted))
    return [path]


def _site_packages(folder: Path) -> Path:
    major, minor = sys.version_info[:2]
    return folder / "lib" / f"python{major}.{minor}" / "site-packages"


def _complete(folder: Path) -> None:
    """Write the marker, once everything else of the environment is on disk."""
    _sync_file_system(folder)
    staged = folder / (MARKER + ".new")
    staged.write_text(json.dumps({"interpreter": interpreter_identity()}) + "\n")
    with staged.open("rb") as stream:
        os.fsync(stream.fileno())
    staged.rename(folder / MARKER)
    folders.sync_folder(folder)


def _sync_file_system(folder: Path) -> None:
    # One call for thousands of files; os.sync would wait for every other disk too.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    """Hold `path` against other processes; they never share a folder in normal operation."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX))
    try:
        await asyncio.shield(waiting)
        yield
    finally:
        # A thread that still waits must not find its descriptor in other hands.
        waiting.add_done_callback(lambda _: os.close(descriptor))
