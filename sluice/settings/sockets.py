"""Unix sockets in folders whose path is longer than the kernel takes an address to be."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

LONGEST: Final = 107  # bytes of the kernel's sockaddr_un, less its NUL


def socket_address(path: Path) -> str:
    """What to bind or to connect to for the socket at `path`; its folder is made where it is not.

    Of a long path it leads through a descriptor of the folder, which stays open with this process.
    Raises OSError.
    """
    if len(os.fsencode(path)) <= LONGEST:
        return str(path)
    return f"/proc/self/fd/{_folder(path.parent)}/{path.name}"


@lru_cache(maxsize=16)
def _folder(path: Path) -> int:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
