"""Reaps orphaned processes when the replica is PID 1 of its namespace.

A grandchild whose parent ended becomes a child of PID 1 and stays a zombie until PID 1 waits for
it. The handler waits for its own children (subprocess): reaping one of them would make its exit
code 0. The two look alike, so a zombie is reaped only after a while.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

SWEEP_SECONDS: Final = 10.0
LEFT_ALONE_SECONDS: Final = 60.0


class Reaper:
    """Reaps zombies that are older than LEFT_ALONE_SECONDS."""

    def __init__(self, processes: Path = Path("/proc")) -> None:
        self._processes = processes
        self._seen: dict[int, float] = {}

    def sweep(self, now: float) -> list[int]:
        """The ids reaped; now: monotonic seconds."""
        zombies = set(self._zombies())
        self._seen = {pid: self._seen.get(pid, now) for pid in zombies}
        due = [pid for pid, since in self._seen.items() if now - since >= LEFT_ALONE_SECONDS]
        for pid in due:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return due

    def _zombies(self) -> Iterator[int]:
        own = str(os.getpid())
        for entry in self._processes.iterdir():
            if not entry.name.isdecimal():
                continue
            with suppress(OSError):
                # pid (name) state parent ...; the name may contain anything, brackets too.
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state == "Z" and parent == own:
                    yield int(entry.name)
