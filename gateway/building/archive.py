"""Unpacks a build context: an uncompressed tar that may write into one folder and nowhere else.

Every member is checked before anything of it is written: its kind, name, size and path. A tar that
breaks a rule is refused as a whole, and what was unpacked so far is removed.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from gateway import folders
from gateway.building.errors import ArchiveError

CONTEXT: Final = "context"
CONFIG: Final = "com.openfaas.docker.config"
SECRETS: Final = "com.openfaas.secrets"
CONFIG_BYTES: Final = 64 * 1024
SECRETS_BYTES: Final = 1024 * 1024
# PATH_MAX and NAME_MAX of Linux, less what the data folder's own path needs.
PATH_BYTES: Final = 1024
NAME_BYTES: Final = 255
CHUNK_BYTES: Final = 1024 * 1024
COMPRESSIONS: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
KINDS: Final = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """members: most entries. member_bytes, total_bytes: of one file and of all files together."""

    members: int
    member_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a tar held. context: the folder; config: the build config; secrets: sealed, or None."""

    context: Path
    config: bytes
    secrets: bytes | None


def unpack(tar: Path, folder: Path, limits: ArchiveLimits) -> Unpacked:
    """The parts of the tar, its context written below `folder`, a new one that this call makes.

    Raises ArchiveError.
    """
    folder.mkdir(mode=0o700)
    try:
        with tar.open("rb") as stream:
            _refuse_compressed(stream.read(8))
            stream.seek(0)
            return _Unpacking(stream, folder, limits).run()
    except (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError) as error:
        # All that TarFile raises on malicious headers.
        folders.remove(folder)
        raise ArchiveError(f"not a readable tar archive: {error}") from error
    except BaseException:
        folders.remove(folder)
        raise


class _Unpacking:
    """Unpacks one tar."""

    def __init__(self, stream: IO[bytes], folder: Path, limits: ArchiveLimits) -> None:
        self._stream, self._folder, self._limits = stream, folder, limits
        self._seen: set[str] = set()
        self._files: set[str] = set()
        self._parts: dict[str, bytes] = {}
        self._members = self._total = 0

    def run(self) -> Unpacked:
        with tarfile.open(fileobj=self._stream, mode="r:", errors="surrogateescape") as archive:
            for member in self._entries(archive):
                self._take(archive, member)
            self._refuse_damage(archive.offset)
        if not (self._folder / CONTEXT).is_dir():
            raise ArchiveError(f"the archive holds no folder {CONTEXT}/")
        if CONFIG not in self._parts:
            raise ArchiveError(f"the archive holds no {CONFIG}")
        context = self._folder / CONTEXT
        return Unpacked(context, self._parts[CONFIG], self._parts.get(SECRETS))

    def _entries(self, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        while (member := archive.next()) is not None:
            self._members += 1
            if self._members > self._limits.members:
                raise ArchiveError(f"the archive has more than {self._limits.members} members")
            yield member

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = _checked_name(member.name)
        _refuse_kind(name, member)
        if name in self._seen:
            raise ArchiveError(f"member {name!r} is there twice")
        self._seen.add(name)
        if name in {CONFIG, SECRETS}:
            self._parts[name] = self._part(archive, member, name)
        elif name != CONTEXT and not name.startswith(CONTEXT + "/"):
            raise ArchiveError(
                f"member {name!r}: expected names under {CONTEXT}/, {CONFIG} or {SECRETS}"
            )
        elif member.isdir():
            self._make_folder(name)
        else:
            self._write(archive, member, name)

    def _part(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> bytes:
        limit = CONFIG_BYTES if name == CONFIG else SECRETS_BYTES
        if not member.isreg() or member.size > limit:
            raise ArchiveError(f"member {name!r}: expected a file of at most {limit} bytes")
        buffer = io.BytesIO()
        self._copy(archive, member, name, buffer)
        return buffer.getvalue()

    def _make_folder(self, name: str) -> None:
        self._refuse_file_above(name)
        (self._folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if name == CONTEXT:
            raise ArchiveError(f"member {name!r}: expected a folder")
        self._refuse_sizes(member, name)
        self._make_folder(str(PurePosixPath(name).parent))
        path = self._folder / name
        if path.is_dir():
            raise ArchiveError(f"member {name!r} is both a file and a folder")
        # O_EXCL and O_NOFOLLOW: even a mistake in the rules above could not write elsewhere.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
        with os.fdopen(os.open(path, flags, mode), "wb") as target:
            self._copy(archive, member, name, target)
            os.fchmod(target.fileno(), mode)
        self._files.add(name)

    def _refuse_sizes(self, member: tarfile.TarInfo, name: str) -> None:
        self._total += member.size
        if member.size > self._limits.member_bytes:
            raise ArchiveError(
                f"member {name!r} has {member.size} bytes, at most {self._limits.member_bytes} "
                "are allowed"
            )
        if self._total > self._limits.total_bytes:
            raise ArchiveError(
                f"member {name!r} brings the context to {self._total} bytes, at most "
                f"{self._limits.total_bytes} are allowed"
            )

    def _refuse_file_above(self, name: str) -> None:
        above = {name, *map(str, PurePosixPath(name).parents)}
        if taken := sorted(above & self._files):
            raise ArchiveError(f"member {taken[0]!r} is both a file and a folder")

    def _copy(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, target: IO[bytes]
    ) -> None:
        source = archive.extractfile(member)
        left = member.size
        while source is not None and (chunk := source.read(min(left, CHUNK_BYTES))):
            target.write(chunk)
            left -= len(chunk)
        if left:
            raise ArchiveError(f"the archive ends within member {name!r}")

    def _refuse_damage(self, offset: int) -> None:
        # TarFile takes a damaged header for the end of the archive; only a block of zeros is one.
        self._stream.seek(offset)
        if self._stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ArchiveError(f"the archive is damaged after {self._members} members")


def _refuse_compressed(head: bytes) -> None:
    for magic, name in COMPRESSIONS.items():
        if head.startswith(magic):
            raise ArchiveError(f"the archive is compressed ({name}): expected a plain tar")


def _refuse_kind(name: str, member: tarfile.TarInfo) -> None:
    if member.size < 0:
        raise ArchiveError(f"member {name!r} has a negative size")
    if member.issparse():
        raise ArchiveError(f"member {name!r} is a sparse file: expected files and folders only")
    if not member.isreg() and not member.isdir():
        kind = KINDS.get(member.type, f"of unknown type {member.type!r}")
        raise ArchiveError(f"member {name!r} is {kind}: expected files and folders only")


def _checked_name(name: str) -> str:
    """The member's name, a plain relative path of printable UTF-8 text."""
    shown = ascii(name[:200])
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ArchiveError(f"member {shown}: the name is not UTF-8") from error
    parts = name.split("/")
    if name.startswith("/"):
        raise ArchiveError(f"member {shown}: absolute paths are refused")
    if ".." in parts:
        raise ArchiveError(f"member {shown}: '..' in a path is refused")
    if "" in parts or "." in parts or not name.isprintable() or "\\" in name:
        raise ArchiveError(f"member {shown}: expected a plain relative path")
    if size > PATH_BYTES or any(len(part.encode()) > NAME_BYTES for part in parts):
        raise ArchiveError(
            f"member {shown}...: names may have {NAME_BYTES} bytes, paths {PATH_BYTES}"
        )
    return name
