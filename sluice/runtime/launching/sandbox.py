"""Gives a replica its own view of the machine: namespaces, mounts, limits.

First `die_with_parent` and `unshare` in the intermediate process, then `confine` in its child,
which is PID 1 of the new namespaces. Standard library only.
"""

import os
import re
import resource
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sluice.launch import PRIVATE_CACHE, PRIVATE_TMP, SECRETS_DIR, Sandbox
from sluice.runtime.launching import kernel
from sluice.runtime.launching.kernel import KernelError

DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - a memory file system of the replica's own
SHARED_MEMORY_BYTES: Final = 256 << 20
# Root owns these, and so may read them without any capability.
ROOT_FILES: Final = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers")
ROOT_FOLDERS: Final = ("/etc/ssh", "/etc/ssl/private", "/etc/kubernetes", "/boot")
PID_MAX: Final = "/proc/sys/kernel/pid_max"
# In an older kernel these numbers are the whole machine's: PID_MAX must not be written, and
# RLIMIT_NPROC counts the user's processes everywhere.
OWN_PID_MAX: Final = (6, 14)
OWN_PROCESS_COUNT: Final = (5, 14)
# The kernel gives these process ids out once, to what is started first.
RESERVED_PIDS: Final = 300
MOST_FILES: Final = 100_000  # of one mount: each takes about 1 kB of the kernel's memory


def kernel_version(release: str = "") -> tuple[int, int]:
    """Major and minor number of the kernel, or of `release`; zeros for a name that has none."""
    found = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


# Found once, in the zygote: replicas are forked from it.
VERSION: Final = kernel_version()


def die_with_parent(parent: int) -> None:
    """End this process when `parent` ends; at once when it has ended.

    Must be repeated after `unshare`: a change of credentials may clear it.
    """
    kernel.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def die_with_writer(lifeline: int) -> None:
    """`die_with_parent` for PID 1 of a namespace, whose getppid() is always 0.

    lifeline: the reading end of a pipe whose other end only the parent holds.
    """
    kernel.die_with_parent()
    poll = select.poll()
    poll.register(lifeline, 0)  # the end of a pipe is always reported
    if poll.poll(0):
        os._exit(1)


def unshare() -> None:
    """Give this process its own mounts and its next child its own process ids.

    For any user but root this needs a user namespace, in which user and group keep their numbers.
    Raises KernelError.
    """
    user, group = os.geteuid(), os.getegid()
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC
    kernel.unshare(flags if user == 0 else flags | kernel.CLONE_NEWUSER)
    if user != 0:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    kernel.make_private("/")


def confine(sandbox: Sandbox) -> None:
    """Replace this mount namespace's view of the machine by the sandbox's, then drop privileges.

    What a replica may not see is covered, and what stays is read-only, except /tmp and /dev/shm,
    which are its own, and the cache, which the replicas of its function share. Raises KernelError.
    """
    kernel.mount("proc", "/proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    if sandbox.processes:
        limit_processes(sandbox.processes)
    # Sources are opened first: once their folders are covered, no path leads to them.
    optional = filter(None, [sandbox.secrets, sandbox.cache])
    with _opened({*sandbox.show, sandbox.tmp, *optional}) as sources:
        _make_devices()
        _make_secrets_point()
        if sandbox.tmp_bytes:
            mount_memory(PRIVATE_TMP, "700", sandbox.tmp_bytes)
        else:
            kernel.bind(sources[sandbox.tmp], PRIVATE_TMP)
        _hide(sandbox.hide)
        for path in sorted(sandbox.show, key=len):
            _show(path, sources[path])
        if sandbox.secrets:
            kernel.bind(sources[sandbox.secrets], SECRETS_DIR)
        if sandbox.cache:
            Path(PRIVATE_CACHE).mkdir(exist_ok=True)
            kernel.bind(sources[sandbox.cache], PRIVATE_CACHE)
    kernel.set_attributes("/", kernel.ATTR_RDONLY | kernel.ATTR_NOSUID, 0, recursive=True)
    for folder in (PRIVATE_TMP, SHARED_MEMORY, *([PRIVATE_CACHE] if sandbox.cache else [])):
        kernel.set_attributes(folder, 0, kernel.ATTR_RDONLY)
    kernel.drop_privileges()


def probe(sandbox: Sandbox) -> str:
    """Why replicas cannot be isolated here; empty when they can."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, _attempt(sandbox).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as response:
        return response.read()


def _attempt(sandbox: Sandbox) -> str:
    try:
        unshare()
        child = os.fork()
        if child == 0:
            confine(sandbox)
            return ""
        os.waitpid(child, 0)
    except (KernelError, OSError) as error:
        return str(error)
    return ""


def limit_processes(count: int) -> None:
    """Keep this process's new PID (and user) namespace to about `count` processes and threads.

    Must be called in these, with /proc mounted and before privileges are dropped. A fork beyond the
    limit fails with EAGAIN, as on a full machine. Raises KernelError.
    """
    try:
        if VERSION >= OWN_PID_MAX:
            _write(PID_MAX, str(RESERVED_PIDS + count))
        elif VERSION >= OWN_PROCESS_COUNT and os.geteuid() != 0:
            _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
            most = count if hard == resource.RLIM_INFINITY else min(count, hard)
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    except (KernelError, OSError, ValueError) as error:
        raise KernelError(f"limit processes to {count}: {error}") from error


def mount_memory(target: str, mode: str, size: int) -> None:
    """Mount an empty folder of `size` bytes, kept in memory, at `target`. Raises KernelError."""
    options = f"mode={mode},size={size},nr_inodes={MOST_FILES}"
    kernel.mount("tmpfs", target, kernel.MS_NOSUID | kernel.MS_NODEV, options)


def _make_devices() -> None:
    """Make a /dev without disks, terminals and the shared memory of others."""
    present = [path for path in (f"/dev/{name}" for name in DEVICES) if Path(path).exists()]
    with _opened(present) as sources:
        kernel.mount("tmpfs", "/dev", kernel.MS_NOSUID, "mode=755,size=64k")
        for path, source in sources.items():
            Path(path).touch()
            kernel.bind(source, path)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path("/dev", name).symlink_to(f"/proc/self/fd{target}")
    Path(SHARED_MEMORY).mkdir()
    mount_memory(SHARED_MEMORY, "1777", SHARED_MEMORY_BYTES)


def _make_secrets_point() -> None:
    """Make an empty folder at SECRETS_DIR, whether or not the machine has one.

    Where it has none, a new /var is mounted, with the entries of the old one mounted in it.
    """
    if Path(SECRETS_DIR).is_dir():
        _cover(SECRETS_DIR)
        return
    entries = [path for path in Path("/var").iterdir() if path.name not in {"tmp", "openfaas"}]
    links = {path: path.readlink() for path in entries if path.is_symlink()}
    with _opened(str(path) for path in entries if path not in links) as sources:
        _cover("/var")
        for path, source in sources.items():
            _show(path, source)
    for link, target in links.items():
        link.symlink_to(target)
    Path("/var/tmp").symlink_to(PRIVATE_TMP)  # noqa: S108 - the replica's own
    Path(SECRETS_DIR).mkdir(parents=True)


def _hide(folders: Sequence[str]) -> None:
    for folder in sorted(folders, key=len):
        # It is absent where its parent is covered.
        if Path(folder).is_dir():
            _cover(folder)
    if os.geteuid() == 0:
        for folder in filter(os.path.isdir, ROOT_FOLDERS):
            _cover(folder)
        for file in filter(os.path.isfile, ROOT_FILES):
            kernel.bind("/dev/null", file)


def _cover(folder: str) -> None:
    kernel.mount("tmpfs", folder, kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=1m")


def _show(path: str, source: str) -> None:
    """Mount `source` at `path`, which is made when it is not there."""
    target = Path(path)
    if target.exists() and target.samefile(source):
        return  # nothing covers it
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    kernel.bind(source, path)


@contextmanager
def _opened(paths: Iterable[str]) -> Iterator[dict[str, str]]:
    """For each path a name by which it can be reached after it is covered."""
    descriptors: dict[str, int] = {}
    try:
        for path in paths:
            descriptors[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
        yield {path: f"/proc/self/fd/{number}" for path, number in descriptors.items()}
    except OSError as error:
        raise KernelError(f"{error.filename}: {error.strerror}") from error
    finally:
        for number in descriptors.values():
            os.close(number)


def _write(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError(f"write {path}: {error.strerror}") from error


def main(arguments: Sequence[str]) -> int:
    """Write why isolation fails here, or nothing. arguments: the folder to show as /tmp."""
    sys.stdout.write(probe(Sandbox((), (), os.path.realpath(arguments[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
