"""Runs a program that the kernel ends with its parent: `lifeline.py PARENT PROGRAM ARGUMENT...`.

It also lowers the priority: a build may take long, calls may not.

A script of its own, on the standard library alone, so that it starts in milliseconds. Without it a
build would go on after a kill -9 of the gateway, against the next gateway's clean-up.
"""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
NICENESS: Final = 10


def main(arguments: list[str]) -> None:
    """Become the program; the process that started this one must still be PARENT."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(arguments[0]):
        sys.exit("lifeline: the parent is gone")
    os.nice(NICENESS)
    os.execv(arguments[1], arguments[1:])  # noqa: S606  # the program is the builder's choice


if __name__ == "__main__":
    main(sys.argv[1:])
