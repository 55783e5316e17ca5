"""A real HTTP server on a free port that answers by a script."""

import socket
import threading

Script = list[bytes | None]


def response(status: str, body: bytes, more: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode() + more + b"\r\n" + body


class Scripted:
    """A server that gives each request the next answer of a script; None closes the connection.

    An answer that ends in `+close` is followed by a close that its headers do not tell of.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._script = iter(script)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                self._response(connection)

    def _response(self, connection: socket.socket) -> None:
        while request := self._read(connection):
            self.requests.append(request)
            reply = next(self._script, None)
            if reply is None:
                return
            connection.sendall(reply.removesuffix(b"+close"))
            if reply.endswith(b"+close"):
                return

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                part = connection.recv(65536)
            except OSError:
                return b""
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
