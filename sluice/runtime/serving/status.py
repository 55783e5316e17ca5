"""Reports the replica's status to its provider over an inherited pipe."""

import json
import os
from typing import Final

LONGEST_REASON: Final = 900  # characters; the line then fits a pipe's atomic write, 4096 bytes


class StatusPipe:
    """Writes one JSON object per line; does nothing without a pipe or a reader."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    def ready(self) -> None:
        self._write({"event": "ready"})

    def failed(self, reason: str) -> None:
        self._write({"event": "failed", "reason": reason[:LONGEST_REASON]})

    def replace(self, reason: str) -> None:
        """Request another replica now; this one drains itself."""
        self._write({"event": "replace", "reason": reason[:LONGEST_REASON]})

    def _write(self, event: dict[str, str]) -> None:
        if self._descriptor is None:
            return
        line = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            os.write(self._descriptor, line)
        except OSError:
            # The reader has ended; it is not needed any more.
            self._descriptor = None
