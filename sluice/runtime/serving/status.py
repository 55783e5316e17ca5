"""Reports the replica's status to its provider over an inherited pipe."""

import os

from sluice.launch import Event, Failed, Ready, Replace, encode


class StatusPipe:
    """Writes one event per line; does nothing without a pipe or a reader."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    def ready(self) -> None:
        self._write(Ready())

    def failed(self, reason: str) -> None:
        self._write(Failed(reason))

    def replace(self, reason: str) -> None:
        """Request another replica now; this one drains itself."""
        self._write(Replace(reason))

    def _write(self, event: Event) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, encode(event) + b"\n")
        except OSError:
            # The reader has ended. The kernel reports this replica's own end, not this pipe.
            self._descriptor = None
