"""The gateway's own secrets on disk: created at the first start, read at every later one."""

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.types.errors import SluiceError

USER_FILE: Final = "basic-auth-user"
PASSWORD_FILE: Final = "basic-auth-password"  # noqa: S105 - the name of a file
PAYLOAD_FILE: Final = "payload-secret"
REGISTRY_FILE: Final = "registry-token"
GENERATED_BYTES: Final = 32
MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What callers are identified by. An empty payload_secret or registry_token matches nothing."""

    user: bytes
    password: bytes
    payload_secret: bytes
    registry_token: bytes


def ensure(folder: Path) -> Credentials:
    """The credentials in `folder`; missing files are created first (0600 in a 0700 folder).

    Two processes that start at once get the same values. Raises SluiceError naming a file that is
    empty or cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077 and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)
    _create(folder / USER_FILE, b"admin")
    for name in (PASSWORD_FILE, PAYLOAD_FILE, REGISTRY_FILE):
        _create(folder / name, secrets.token_urlsafe(GENERATED_BYTES).encode())
    return read(folder)


def read(folder: Path) -> Credentials:
    """The credentials mounted at `folder`; user and password must be there. Raises SluiceError."""
    return Credentials(
        user=_read(folder / USER_FILE),
        password=_read(folder / PASSWORD_FILE),
        payload_secret=_read_optional(folder / PAYLOAD_FILE),
        registry_token=_read_optional(folder / REGISTRY_FILE),
    )


def _create(path: Path, value: bytes) -> None:
    """Write `value` unless the file exists: durably and as a whole, or not at all."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(value + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first: its value counts
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            value = file.read(MAX_FILE_BYTES).strip()
    except OSError as error:
        raise SluiceError(f"{path}: cannot read it: {error.strerror}") from error
    if not value:
        raise SluiceError(f"{path}: expected a secret, got an empty file")
    return value


def _read_optional(path: Path) -> bytes:
    return _read(path) if path.exists() else b""
