"""Folders that functions write: measures, trims and removes them, whatever they contain.

A function chooses names, depth, modes and links, and may change them meanwhile. So nothing here
follows a link or recurses without bound; files are reached from the descriptor of a folder that was
opened without following a link.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

BLOCK_BYTES: Final = 512
# To look at so many takes a thread 0.1 s.
MOST_FILES: Final = 20_000
MOST_LEVELS: Final = 64
OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """A file below a folder. parts: names from that folder to it. used: seconds since 1970."""

    parts: tuple[str, ...]
    bytes: int
    used: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The content of a folder. whole: false when not all of it could be looked at."""

    files: tuple[Entry, ...]
    whole: bool

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def measure(folder: Path) -> Kept:
    """The files below `folder`; none if it does not exist.

    Not whole with more than MOST_FILES files and folders, MOST_LEVELS levels, or a locked folder.
    """
    if not folder.is_dir():
        return Kept((), whole=True)
    found: list[Entry] = []
    unseen: list[OSError] = []
    looked_at = 0
    for path, folders, names, descriptor in os.fwalk(folder, onerror=unseen.append):
        parts = Path(path).relative_to(folder).parts
        looked_at += len(folders) + len(names)
        if looked_at > MOST_FILES or len(parts) > MOST_LEVELS:
            return Kept(tuple(found), whole=False)
        found += _entries(parts, names, descriptor)
    missed = any(not isinstance(error, FileNotFoundError) for error in unseen)
    return Kept(tuple(found), whole=not missed)


def trim(folder: Path, most_bytes: int) -> int:
    """Remove what was written longest ago until the rest fits `most_bytes`; returns bytes removed.

    Removes everything when there are too many files or levels to choose from.
    """
    kept = measure(folder)
    if not kept.whole:
        clear(folder)
        return kept.bytes
    surplus = excess = max(0, kept.bytes - most_bytes)
    for file in sorted(kept.files, key=lambda file: file.used):
        if surplus <= 0:
            break
        with suppress(OSError), _opened(folder, file.parts[:-1]) as descriptor:
            os.unlink(file.parts[-1], dir_fd=descriptor)
            surplus -= file.bytes
    return excess - surplus


def remove(folder: Path) -> None:
    """Remove a folder that is no longer used, with all below it, if it exists."""
    clear(folder)
    with suppress(OSError):
        folder.rmdir()


def clear(folder: Path) -> None:
    """Empty a folder, if it exists; what the system refuses to remove stays."""
    with suppress(OSError):
        _unlock(folder)
        top = os.open(folder, OPEN_FOLDER)
        try:
            _clear(top)
        finally:
            os.close(top)


def _clear(top: int) -> None:
    """Empty the folder behind `top`: a folder within a folder is moved up to it first.

    So a tree of any depth needs two descriptors and no path.
    """
    mark, number = token_hex(8), 0
    waiting = deque(_names(top))
    while waiting:
        name = waiting.popleft()
        if not _is_folder(top, name):
            _forget(top, name)
            continue
        with suppress(OSError):
            _unlock(name, top)
            inner = os.open(name, OPEN_FOLDER, dir_fd=top)
            try:
                for each in _names(inner):
                    if _is_folder(inner, each):
                        number += 1
                        _unlock(each, inner)
                        lifted = f"{mark}-{number}"
                        os.rename(each, lifted, src_dir_fd=inner, dst_dir_fd=top)
                        waiting.append(lifted)
                    else:
                        _forget(inner, each)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _entries(parts: tuple[str, ...], names: list[str], descriptor: int) -> Iterator[Entry]:
    """The files of one folder, except those removed meanwhile."""
    for name in names:
        with suppress(OSError):
            facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            yield Entry((*parts, name), facts.st_blocks * BLOCK_BYTES, facts.st_mtime)


@contextmanager
def _opened(folder: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """The descriptor of a folder below `folder`; no part of the path may be a link."""
    descriptor = os.open(folder, OPEN_FOLDER)
    try:
        for part in parts:
            following = os.open(part, OPEN_FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def _names(descriptor: int) -> list[str]:
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries]


def _is_folder(descriptor: int, name: str) -> bool:
    with suppress(OSError):
        facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        return stat.S_ISDIR(facts.st_mode)
    return False


def _forget(descriptor: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=descriptor)


def _unlock(path: Path | str, parent: int | None = None) -> None:
    """Give the owner access to a folder whose mode denies it."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        # By descriptor: the name may have become a link.
        Path(f"/proc/self/fd/{descriptor}").chmod(0o700)
    finally:
        os.close(descriptor)
