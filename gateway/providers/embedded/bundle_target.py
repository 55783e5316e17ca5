"""Makes bundles of what is built: the build target of the embedded provider.

Environments are shared: one for each lock, given to every bundle of that lock. A virtual
environment cannot be moved, so it is made in its final folder: under a lock file, with a marker
written last. One without a marker is removed, by the build that failed or at the next start.
"""

import asyncio
import ctypes
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from weakref import WeakValueDictionary

from gateway import folders
from gateway.building.child import Report
from gateway.building.environments import compile_modules, make_environment, preload_modules
from gateway.building.locking import Lock, Resolver, interpreter_identity
from gateway.building.target import BuildContext, BuildResult
from gateway.building.threads import to_end
from gateway.building.uv import Uv
from gateway.providers.embedded.bundle_store import BundleRow
from gateway.providers.embedded.bundles import MARKER, Bundles
from sluice.file_lock import file_lock


class BundleTarget:
    """Builds into the bundles of one data folder. Implements gateway.building.target.Target."""

    def __init__(self, bundles: Bundles, environ: Mapping[str, str] = os.environ) -> None:
        """environ: read for the settings of pip and uv, which are not the gateway's knobs."""
        self._bundles = bundles
        self._uv = Uv(environ, bundles.cache.folder)
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.cache = bundles.cache
        self.resolver = Resolver(self._uv, bundles.store)

    def workspace(self) -> AbstractContextManager[Path]:
        return self._bundles.staging()

    async def build(self, context: BuildContext, lock: Lock, report: Report) -> BuildResult:
        folder, key = context.folder, lock.key
        with self._bundles.hold(key):
            await self.prepare(lock, report)
            digest = await to_end(lambda: bundle_digest(folder, key))
            await compile_modules(folder, report)
            environment = self._bundles.environment(key)
            preload = await to_end(lambda: preload_modules(environment, lock))
            row = BundleRow(context.image, digest, key, preload, context.form)
            await to_end(lambda: self._bundles.add(folder, row))
        return BuildResult(digest, f"preloads {', '.join(preload) or 'nothing'}")

    async def prepare(self, lock: Lock, report: Report) -> None:
        """Make the environment of `lock` if it is not there; durable on return.

        Builds that need the same one wait for each other. Raises BuildError.
        """
        key = lock.key
        lock_file = self._bundles.environment_lock(key)
        async with self._busy.setdefault(key, asyncio.Lock()), file_lock(lock_file):
            if self._bundles.has_environment(key):
                await report(f"Environment {key[:12]} is there already")
                return
            await report(f"Making environment {key[:12]}")
            await self._make(self._bundles.environment(key), lock, report)

    async def _make(self, folder: Path, lock: Lock, report: Report) -> None:
        try:
            await asyncio.to_thread(folders.remove, folder)
            await make_environment(self._uv, folder, lock, report)
            await asyncio.to_thread(_complete, folder)
        except BaseException:
            # A cancelled build too: the next one starts from nothing.
            await asyncio.shield(asyncio.to_thread(folders.remove, folder))
            raise


def bundle_digest(folder: Path, lock_key: str) -> str:
    """SHA-256 over the paths, modes and contents of the folder's files and its environment."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256(f"{lock_key}\n".encode())
    for path in files:
        mode = "x" if path.stat().st_mode & stat.S_IXUSR else "-"
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{content} {mode} {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


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
