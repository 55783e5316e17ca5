"""The cache that outlives a replica: the last known version of a reference, and model files.

Several replicas share the folder. A file is written under a temporary name and renamed, so that a
reader sees all of it or nothing. What is read is verified; a file that does not match its name is
removed. Everything here can be fetched from the registry again.
"""

import hashlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

_LOG: Final = logging.getLogger("predict")
_MAX_REFERENCES: Final = 256
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Known(NamedTuple):
    """A model version as the registry described it, and the ETag it came with."""

    body: dict[str, Any]
    etag: str


class Cache:
    """A folder of references/ and artifacts/ whose artifacts stay within a size."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """max_bytes: of all artifacts together; the least recently used go first."""
        self._references = folder / "references"
        self._artifacts = folder / "artifacts"
        self._max_bytes = max_bytes

    def known(self, reference: str) -> Known | None:
        """What was last known behind a reference."""
        path = self._reference_path(reference)
        try:
            value = json.loads(path.read_bytes())
            return Known(value["body"], value["etag"]) if value["reference"] == reference else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("reference=%s cached entry dropped: %s", reference, error)
            _remove(path)
            return None

    def learn(self, reference: str, known: Known) -> None:
        value = {"reference": reference, "body": known.body, "etag": known.etag}
        self._write(self._reference_path(reference), json.dumps(value).encode())
        for _, _, path in _by_use(self._references)[:-_MAX_REFERENCES]:
            _remove(path)

    def forget(self, reference: str) -> None:
        _remove(self._reference_path(reference))

    def artifact(self, sha256: str) -> bytes | None:
        """A model file, verified."""
        if _DIGEST.fullmatch(sha256) is None:
            return None  # and no path either
        path = self._artifacts / sha256
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            _LOG.warning("artifact=%s cached file dropped: its content is another", sha256)
            _remove(path)
            return None
        try:
            os.utime(path)
        except OSError as error:
            _LOG.debug("artifact=%s use not noted: %s", sha256, error)
        return content

    def keep(self, sha256: str, content: bytes) -> None:
        """Store a model file and drop those longest unused while all are over the size."""
        if len(content) > self._max_bytes or _DIGEST.fullmatch(sha256) is None:
            return
        self._write(self._artifacts / sha256, content)
        files = _by_use(self._artifacts)
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self._max_bytes:
                break
            if path.name != sha256:
                _remove(path)
                total -= size

    def _reference_path(self, reference: str) -> Path:
        return self._references / f"{hashlib.sha256(reference.encode()).hexdigest()}.json"

    def _write(self, path: Path, content: bytes) -> None:
        """Write and rename. A cache that cannot be written is logged; calls do not need it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                Path(temporary).replace(path)
            except OSError:
                _remove(Path(temporary))
                raise
        except OSError as error:
            _LOG.warning("path=%s not cached: %s", path.name, error)


def _by_use(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, size and path of each file, longest unused first."""
    found = []
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another replica removed it
        found.append((status.st_mtime, status.st_size, path))
    return sorted(found)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("path=%s not removed: %s", path.name, error)
