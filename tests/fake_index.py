"""A package index as PEP 503 has it, over a folder of wheels, that asks for a password."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.utils import parse_wheel_filename

USER, PASSWORD = "reader", "s3cret"


@contextmanager
def serving(wheels: Path) -> Iterator[tuple[str, list[str]]]:
    """The index's address (`HOST:PORT/simple`) and the paths that were answered with 200."""
    answered: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {token}":
                self._response(401, b"", "text/plain")
            elif self.path.startswith("/files/"):
                self._response(200, (wheels / Path(self.path).name).read_bytes(), "application/zip")
            else:
                self._response(200, _page(wheels, self.path.split("/")[2]), "text/html")

        def _response(self, status: int, body: bytes, kind: str) -> None:
            if status == 200:
                answered.append(self.path)
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
            """Keep the requests out of the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}/simple", answered
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _page(wheels: Path, project: str) -> bytes:
    links = [
        f'<a href="/files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">'
        f"{path.name}</a>"
        for path in sorted(wheels.glob("*.whl"))
        if parse_wheel_filename(path.name)[0] == project
    ]
    return f"<html><body>{''.join(links)}</body></html>".encode()
