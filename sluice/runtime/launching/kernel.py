"""System calls that Python 3.11 lacks: unshare, mount, prctl and capset. Linux only."""

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x2, 0x4, 0x8, 0x1000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
ATTR_RDONLY, ATTR_NOSUID = 0x1, 0x2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 24, 36
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
CAPABILITY_VERSION: Final = 0x20080522
MOST_CAPABILITIES: Final = 64
SYS_MOUNT_SETATTR: Final = 442  # the same number on every architecture
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class KernelError(Exception):
    """The kernel refused a step. The text names the step and the reason."""


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` names for new ones."""
    _call("unshare namespaces", _libc.unshare, flags)


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Mount a new file system of `kind` on `target`."""
    _mount(kind, target, kind, flags, options)


def bind(source: str, target: str, flags: int = MS_REC) -> None:
    """Show the file or folder `source` at `target` as well, with all that is mounted below it.

    A user namespace must not uncover what lies under a mount.
    """
    _mount(source, target, None, MS_BIND | flags, "")


def make_private(target: str) -> None:
    """Keep changes of the mounts at and below `target` within this namespace."""
    _mount("none", target, None, MS_REC | MS_PRIVATE, "")


def set_attributes(target: str, added: int, cleared: int, *, recursive: bool = False) -> None:
    """Change ATTR_* of the mount at `target`; recursive: also of all mounts below it."""
    attributes = struct.pack("=QQQQ", added, cleared, 0, 0)
    _call(
        f"set attributes of mount {target}",
        _libc.syscall,
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_long(AT_FDCWD),
        target.encode(),
        ctypes.c_long(AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_long(len(attributes)),
    )


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent's thread ends.

    A change of credentials clears it, and it has no effect when the parent has already ended.
    """
    _prctl("ask to die with the parent", PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl("adopt orphans", PR_SET_CHILD_SUBREAPER, 1)


def drop_privileges() -> None:
    """Give up every capability for good, in this process and all that it starts."""
    _prctl("forbid new privileges", PR_SET_NO_NEW_PRIVS, 1)
    _prctl("clear ambient capabilities", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(MOST_CAPABILITIES):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # the kernel has no more of them
            raise _refused(f"drop capability {capability}")
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    _call("drop capabilities", _libc.capset, header, bytes(24))


def _mount(source: str, target: str, kind: str | None, flags: int, options: str) -> None:
    _call(
        f"mount {target}",
        _libc.mount,
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() if options else None,
    )


def _prctl(step: str, option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _call(step, _libc.prctl, option, ctypes.c_ulong(value), zero, zero, zero)


def _call(step: str, function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        raise _refused(step)


def _refused(step: str) -> KernelError:
    return KernelError(f"{step}: {os.strerror(ctypes.get_errno())}")
