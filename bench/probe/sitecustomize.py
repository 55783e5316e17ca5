"""Records which functions of a process run, for `bench.hops`; imported before all else.

An interpreter imports it when its folder is on PYTHONPATH. The file `control` beside it holds one
byte, the number of the round that is recorded, 0 for none. A program and its forks write to one
file, a part each: what the process is, then a line for each function that runs in a round for the
first time, with the machine's monotonic clock. The file is mapped and not written to by
descriptor: a replica closes its descriptors and sees other folders than its zygote, and a file that
it opened for writing would keep its mounts from being made read-only.
"""

import fcntl
import mmap
import opcode
import os
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

FOLDER = Path(__file__).resolve().parent
PART_BYTES = 2 << 20
PARTS = 256
HANDLER = "function/handler.py"
RESUME = opcode.opmap["RESUME"]
# Libraries, and code that has no file.
OTHERS = ("/site-packages/", f"/lib/python{sys.version_info[0]}.", str(FOLDER), "<")


class Recording:
    """What a process writes. forks: how many lie between the program's start and it."""

    def __init__(self) -> None:
        self._path = FOLDER / f"{time.monotonic_ns()}-{os.getpid()}.trace"
        with self._path.open("wb+") as file:
            file.truncate(PARTS * PART_BYTES)
            self._file = mmap.mmap(file.fileno(), PARTS * PART_BYTES)
        self._counter = len(self._file) - 8
        self._part = self._forks = 0
        self._begin()

    def ran(self, number: int, file: str, function: str) -> None:
        """Record that a function runs in a round, once for the main thread and once for others."""
        main = threading.get_ident() == threading.main_thread().ident
        key = number, main, file, function
        if key not in self._seen:
            self._seen.add(key)
            thread = "main" if main else "other"
            self._write(f"{number}\t{time.monotonic_ns()}\t{thread}\t{file}\t{function}\n")

    def before_fork(self) -> None:
        """Take a part for the process that is about to be forked."""
        # A replica no longer sees the file; what it forks is not recorded apart from it.
        with suppress(OSError), self._path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._taken = int.from_bytes(self._file[self._counter :], "little") + 1
            self._file[self._counter :] = self._taken.to_bytes(8, "little")

    def after_fork(self) -> None:
        """Write to the part that was taken, in the child."""
        self._part = self._taken
        self._forks += 1
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[tuple[int, bool, str, str]] = set()
        self._taken = self._part
        self._next = self._part * PART_BYTES
        self._end = min(self._next + PART_BYTES, self._counter)
        self._write(f"{self._forks}\t{' '.join(sys.orig_argv)}\n")

    def _write(self, line: str) -> None:
        data = line.encode("utf-8", "replace")
        with self._lock:
            end = self._next + len(data)
            if end < self._end:
                self._file[self._next : end] = data
                self._next = end


def _profile(frame: FrameType, event: str, _argument: Any) -> None:
    number = CONTROL[0]
    if not number:
        return
    code = frame.f_code
    if event == "return" and code.co_name == "handle" and code.co_filename.endswith(HANDLER):
        RECORDING.ran(number, "", "handled")
    elif (
        event == "call"
        and not any(other in code.co_filename for other in OTHERS)
        and frame.f_lasti <= _start(code)
    ):
        RECORDING.ran(number, code.co_filename, code.co_qualname)


@cache
def _start(code: CodeType) -> int:
    """Where a function begins; what is called further on is a coroutine that goes on."""
    codes = code.co_code
    return next(at for at in range(0, len(codes), 2) if codes[at] == RESUME)


with (FOLDER / "control").open("rb") as control:
    CONTROL = mmap.mmap(control.fileno(), 1, access=mmap.ACCESS_READ)
RECORDING = Recording()
os.register_at_fork(before=RECORDING.before_fork, after_in_child=RECORDING.after_fork)
threading.setprofile(_profile)
sys.setprofile(_profile)
