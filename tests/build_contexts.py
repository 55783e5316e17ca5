"""Tars as faas-cli packs them, and the worst that one could be sent instead."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

CONFIG = "com.openfaas.docker.config"
Entry = tuple[tarfile.TarInfo, bytes]


def entry(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, mode: int = 0o644
) -> Entry:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, len(content), mode
    return member, content


def folder(name: str) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE, mode=0o700)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    member, content = entry(name, kind=kind)
    member.linkname = target
    return member, content


def config(image: str = "fn:1", arguments: Mapping[str, str] | None = None) -> Entry:
    document = {"image": image, "buildArgs": dict(arguments or {}), "skipPush": True}
    return entry(CONFIG, json.dumps(document).encode(), mode=0o664)


def write_tar(path: Path, entries: Iterable[Entry], mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]  # the mode is the test's
        for member, content in entries:
            archive.addfile(member, io.BytesIO(content))
    return path


def write_context(
    path: Path,
    files: Mapping[str, str],
    image: str = "fn:1",
    arguments: Mapping[str, str] | None = None,
) -> Path:
    """The tar of a context with these files."""
    members = [entry(f"context/{name}", text.encode()) for name, text in files.items()]
    return write_tar(path, [folder("context"), *members, config(image, arguments)])
