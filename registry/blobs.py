"""Artifact files named by their sha256: written to `tmp/`, synced, renamed, then immutable.

A file in the store is always complete: it is renamed into place after fsync, and its folder is
synced before the artifact is reported as stored. A crash leaves partial files only in `tmp/`,
which is emptied at start.
"""

import asyncio
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry.errors import InvalidRequestError, NotFoundError, StorageFullError, TooLargeError
from registry.names import valid_sha256

CHUNK: Final = 1 << 20
FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Spooled:
    """A body on disk that is not in the store yet."""

    path: Path
    sha256: str
    size: int

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


class Blobs:
    """The artifact folder. Call `spool` on the event loop, the other methods in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tmp = folder / "tmp"

    def prepare(self) -> int:
        """Create the folders and empty `tmp/`; returns how many entries were removed.

        The caller must be the only process that uses the folder.
        """
        self.tmp.mkdir(parents=True, exist_ok=True, mode=0o700)
        leftovers = list(self.tmp.iterdir())
        for path in leftovers:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        _sync_folder(self.folder)
        return len(leftovers)

    def workspace(self) -> Path:
        """A new private folder within `tmp/`; the caller removes it."""
        return Path(tempfile.mkdtemp(dir=self.tmp))

    async def spool(self, chunks: AsyncIterator[bytes], limit: int) -> Spooled:
        """Write a body to disk and hash it as it arrives; memory holds about one chunk.

        Raises TooLargeError over `limit` bytes and StorageFullError, and then removes the file.
        """
        descriptor, name = tempfile.mkstemp(dir=self.tmp)
        writer = _Writer(descriptor, limit)
        try:
            async for chunk in chunks:
                if writer.take(chunk):
                    await asyncio.to_thread(writer.flush)
            await asyncio.to_thread(writer.flush)
        except BaseException as error:
            await asyncio.to_thread(Path(name).unlink, missing_ok=True)
            raise _as_registry_error(error) from error
        finally:
            writer.close()
        return Spooled(Path(name), writer.digest.hexdigest(), writer.size)

    def measure(self, path: Path) -> Spooled:
        """The digest and size of a file written by another program."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return Spooled(path, digest.hexdigest(), path.stat().st_size)

    def adopt(self, spooled: Spooled) -> None:
        """Move a spooled file into the store; durable on return. Raises StorageFullError."""
        target = self._path(spooled.sha256)
        try:
            with spooled.path.open("rb") as file:
                os.fsync(file.fileno())
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(self.folder)
            spooled.path.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise _as_registry_error(error) from error

    def path(self, sha256: str) -> Path:
        """The path of an artifact's file. Raises NotFoundError."""
        path = self._path(sha256) if valid_sha256(sha256) else None
        if path is None or not path.is_file():
            raise NotFoundError(f"no artifact {sha256}")
        return path

    def verify(self, sha256: str) -> None:
        """Raises DamagedBlobError when the file no longer matches its digest."""
        found = self.measure(self.path(sha256)).sha256
        if found != sha256:
            raise DamagedBlobError(f"artifact {sha256} is damaged: its content hashes to {found}")

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256


class _Writer:
    """A file being written and hashed; only `flush` blocks."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor, self._limit = descriptor, limit
        self._pending = bytearray()
        self.digest = hashlib.sha256()
        self.size = 0

    def take(self, chunk: bytes) -> bool:
        """Buffer a chunk; returns whether `flush` is due. Raises TooLargeError."""
        self.size += len(chunk)
        if self.size > self._limit:
            raise TooLargeError(f"body: expected at most {self._limit} bytes, got more")
        self._pending += chunk
        return len(self._pending) >= CHUNK

    def flush(self) -> None:
        data, self._pending = self._pending, bytearray()
        self.digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        os.close(self._descriptor)


class DamagedBlobError(Exception):
    """The bytes read from disk differ from the bytes written."""


def check_digest(spooled: Spooled, expected: str | None) -> None:
    """Raises InvalidRequestError when the digest sent by the client does not match the body."""
    if expected is not None and expected.lower() != spooled.sha256:
        raise InvalidRequestError(
            f"X-Content-SHA256: expected {expected}, the body hashes to {spooled.sha256}"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_registry_error(error: BaseException) -> BaseException:
    """StorageFullError for a full disk; any other error unchanged."""
    if isinstance(error, OSError) and error.errno in FULL:
        return StorageFullError("the registry's disk has no room for this")
    return error
