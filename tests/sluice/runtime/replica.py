"""A replica as a provider starts one: a process, an inherited socket, a status pipe, a log."""

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from testbed.ports import free_port

PATIENCE = 60.0


class Replica:
    """`python -m sluice.runtime` on a free port of this machine."""

    def __init__(
        self,
        folder: Path,
        handler: str | None,
        environ: Mapping[str, str],
        program: Sequence[str] = ("-m", "sluice.runtime"),
    ) -> None:
        if handler is not None:
            package = folder / "function"
            package.mkdir(exist_ok=True)
            (package / "handler.py").write_text(handler)
        self.log_path = folder / "log"
        self.port = free_port()
        listener = socket.create_server(("127.0.0.1", self.port))
        self._status, status = os.pipe()
        self._lines = b""
        variables = {
            "PATH": os.environ["PATH"],
            "SLUICE_LISTEN_FD": str(listener.fileno()),
            "SLUICE_STATUS_FD": str(status),
            "SLUICE_BUNDLE": str(folder),
            "SLUICE_SECRETS_DIR": str(folder / "secrets"),
            "OPENFAAS_NAME": "tested",
            "OPENFAAS_NAMESPACE": "fn",
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                env=variables | dict(environ),
                pass_fds=[listener.fileno(), status],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        listener.close()
        os.close(status)

    def __enter__(self) -> "Replica":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._status)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def event(self) -> dict[str, str]:
        """The next event of the status pipe."""
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._lines:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self._status], [], [], max(0.0, left))
            assert readable, f"no status event within {PATIENCE} s; log:\n{self.log}"
            data = os.read(self._status, 65536)
            assert data, f"the status pipe ended; log:\n{self.log}"
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        event: dict[str, str] = json.loads(line)
        return event

    def ready(self) -> "Replica":
        event = self.event()
        assert event == {"event": "ready"}, f"{event}; log:\n{self.log}"
        return self

    def call(
        self,
        path: str = "/",
        body: Any = None,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> "Response":
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Response(response, response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A raw connection, for what a client library would not send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE)

    def wait_for_log(self, text: str) -> str:
        """The log once it holds `text`; polls, for a file has no event to wait for."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{self.log}"
            time.sleep(0.01)
        return self.log

    def wait_for_metrics(self, *lines: str) -> str:
        """The metrics once they hold all `lines`: a call may be counted after its last byte."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.call("/_/metrics", method="GET").text
            if all(line in text for line in lines):
                return text
            assert time.monotonic() < deadline, text
            time.sleep(0.01)

    def wait_for_status(self, path: str, status: int) -> "Response":
        """The first response that is no longer a 429, which must have `status`."""
        deadline = time.monotonic() + PATIENCE
        while (received := self.call(path)).status == 429:
            assert time.monotonic() < deadline, "a slot was not given back"
        assert received.status == status
        return received


class Response:
    """A whole response."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or cuts."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received
