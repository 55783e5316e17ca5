"""The last lines of programs that tests run, for the report of a test that fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

LONGEST: Final = 4000
MOST_FILES: Final = 12
_followed: set[Path] = set()


def follow(folder: Path) -> None:
    """Have the logs below `folder` in the report of a test that fails from now on."""
    _followed.add(folder)


def leave(folder: Path) -> None:
    """The programs that write below `folder` have ended."""
    _followed.discard(folder)


def tails() -> Iterator[tuple[str, str]]:
    """Name and end of each followed log, those written last of a folder."""
    for folder in sorted(_followed):
        paths = sorted(folder.rglob("*.log"), key=_written)[-MOST_FILES:]
        for path in paths:
            yield str(path), _tail(path)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-LONGEST:].decode(errors="replace")
    except OSError as error:
        return str(error)
