"""Memory of processes that no control group counts, on real ones."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.providers.embedded.processes import private_above, private_bytes

MIB = 1 << 20
HOLD = """
import os, sys
held = bytearray(os.urandom(64 << 20))
if {fork}:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(fork: bool) -> Iterator[int]:
    """Id of a process that sees 64 MiB: its own, or what it shares with the one it came from."""
    command = [sys.executable, "-c", HOLD.format(fork=fork)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def test_memory_over_the_limit_is_told_with_its_size() -> None:
    with holding(fork=False) as process:
        assert (private_above(process, 32 * MIB) or 0) >= 64 * MIB
        assert private_above(process, 256 * MIB) is None


def test_pages_shared_with_a_zygote_do_not_count_although_they_are_resident() -> None:
    with holding(fork=True) as process:
        assert private_above(process, 32 * MIB) is None
        assert private_bytes(process) < 32 * MIB


def test_process_that_ended_is_over_no_limit() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert private_above(process.pid, 0) is None
