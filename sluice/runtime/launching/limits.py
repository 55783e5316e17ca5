"""What a replica may take of the machine: processes and threads, files in memory.

Standard library only.
"""

import os
import re
import resource
from typing import Final

from sluice.runtime.launching import kernel
from sluice.runtime.launching.kernel import KernelError

PID_MAX: Final = "/proc/sys/kernel/pid_max"
# Before these the numbers are the whole machine's: nothing may be written, and little said.
OWN_PID_MAX: Final = (6, 14)
OWN_PROCESS_COUNT: Final = (5, 14)
# The kernel gives these numbers out once, to what is started first.
RESERVED_PIDS: Final = 300
MOST_FILES: Final = 100_000  # of one mount: each takes about 1 kB of the kernel's memory


def kernel_version(release: str = "") -> tuple[int, int]:
    """Major and minor number of the kernel, or of `release`; zeros for a name that has none."""
    found = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


# Found once, in the zygote: replicas are forked from it.
VERSION: Final = kernel_version()


def limit_processes(count: int) -> None:
    """Keep this process's new PID (and user) namespace to about `count` processes and threads.

    To be called within them, with /proc mounted and before privileges are dropped. What goes
    beyond fails as fork does when the machine is full: EAGAIN. Raises KernelError.
    """
    try:
        if VERSION >= OWN_PID_MAX:
            _write(PID_MAX, RESERVED_PIDS + count)
        elif VERSION >= OWN_PROCESS_COUNT and os.geteuid() != 0:
            _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
            most = count if hard == resource.RLIM_INFINITY else min(count, hard)
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    except (OSError, ValueError) as error:
        raise KernelError(f"limit processes to {count}: {error}") from error


def mount_memory(target: str, mode: str, size: int) -> None:
    """Mount an empty folder of `size` bytes, kept in memory, at `target`. Raises KernelError."""
    options = f"mode={mode},size={size},nr_inodes={MOST_FILES}"
    kernel.mount("tmpfs", target, kernel.MS_NOSUID | kernel.MS_NODEV, options)


def _write(path: str, value: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
