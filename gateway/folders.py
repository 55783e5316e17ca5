"""Folders that are published as a whole or not at all, and removed even when read-only."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sluice.file_lock import FileLock, LockedError

# The unit of st_blocks.
BLOCK_BYTES: Final = 512
# Prefix of folders that were renamed to be removed.
ASIDE: Final = ".gone-"


def sync_folder(folder: Path) -> None:
    """Make the entries of one folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make every file and folder below `folder`, itself included, durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def make_read_only(folder: Path) -> None:
    """Remove write permission from every file and folder below `folder`, itself included."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent) / name
            path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
        Path(parent).chmod(0o555)


def publish(staged: Path, final: Path) -> None:
    """Rename a finished folder to its final name; after a crash it is complete or not there.

    Both must have the same parent: a read-only folder cannot be moved to another one.
    """
    sync_tree(staged)
    staged.rename(final)
    sync_folder(final.parent)


def size_bytes(folder: Path) -> int:
    """Disk space that the files below `folder` take."""
    return sum(facts.st_blocks for facts in _facts(folder)) * BLOCK_BYTES


def freed_bytes(folder: Path) -> int:
    """Disk space that removing `folder` frees: files with a hard link elsewhere keep theirs."""
    return sum(facts.st_blocks for facts in _facts(folder) if facts.st_nlink == 1) * BLOCK_BYTES


def _facts(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        yield from (os.lstat(Path(parent) / name) for name in names)


def set_aside(folder: Path) -> Path:
    """Rename a folder out of the way, atomically; returns its new path, which is to be removed."""
    aside = folder.with_name(f"{ASIDE}{folder.name}-{secrets.token_hex(4)}")
    if folder.is_dir():
        folder.rename(aside)
    return aside


def remove(folder: Path) -> int:
    """Remove `folder` and all below it, if it is there; returns the bytes of disk freed."""
    if not folder.is_dir() or folder.is_symlink():
        return 0
    freed = freed_bytes(folder)
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o700)
    shutil.rmtree(folder)
    return freed


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process alone holds `path` (file or folder) until the block ends.

    The kernel releases the claim when the process ends, however it ends.
    """
    lock = FileLock(path, create=False)
    try:
        lock.acquire()
    except LockedError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
