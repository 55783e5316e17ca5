"""The packages that uv has downloaded, kept within a size for all builds of one data folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import folders


class PackageCache:
    """uv's cache folder. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Remove what a killed gateway had begun to remove; `folder` itself is made by uv."""
        self.folder = folder
        self._builds = 0
        # The event loop takes it too, so it is held for a rename at most.
        self._lock = threading.Lock()
        for left in folder.parent.glob(f"{folders.ASIDE}{folder.name}-*"):
            folders.remove(left)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the cache from being emptied while a build may use it."""
        with self._lock:
            self._builds += 1
        try:
            yield
        finally:
            with self._lock:
                self._builds -= 1

    def trim(self, limit_bytes: int) -> int:
        """Empty the cache if it is larger; returns the bytes of disk freed.

        Environments keep their files, which are hard links of their own. Nothing happens during a
        build, which trims when it ends.
        """
        if not self.folder.is_dir() or folders.size_bytes(self.folder) <= limit_bytes:
            return 0
        with self._lock:
            if self._builds:
                return 0
            aside = folders.set_aside(self.folder)
        return folders.remove(aside)
