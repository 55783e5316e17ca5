"""Bodies too large for a row, as files: durable, with their name, before a row refers to them."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# Larger bodies go to a file.
ROW_BYTES: Final = 64 * 1024
TEMPORARY: Final = ".part"


class Blobs:
    """The files of one folder. Methods block; call them from a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the folder; remove files that a killed gateway was writing."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._folder.glob(f"*{TEMPORARY}"):
            left.unlink()

    def writer(self, name: str) -> "BlobWriter":
        """A file that gets its name once it is finished."""
        return BlobWriter(self._folder, name)

    def write(self, name: str, data: bytes) -> None:
        """Keep `data`; durable on return."""
        writer = self.writer(name)
        try:
            writer.write(data)
            writer.finish()
        except BaseException:
            writer.discard()
            raise

    def read(self, name: str) -> bytes:
        """The content; raises FileNotFoundError."""
        return (self._folder / name).read_bytes()

    def path(self, name: str) -> Path:
        return self._folder / name

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / name).unlink()

    def names(self) -> Iterator[str]:
        """The finished files."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.endswith(TEMPORARY):
                    yield entry.name


class BlobWriter:
    """A file being written."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._path = folder / f"{name}{TEMPORARY}"
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> None:
        """Give the file its name; durable on return."""
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        self._path.rename(self._folder / self._name)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove the file unless it is finished."""
        self._file.close()
        self._path.unlink(missing_ok=True)
