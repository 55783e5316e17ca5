"""One HTTP/1.1 client over http.client: keep-alive, timeouts, retries. Standard library only.

`sluice.Client`, the command and `sluice.ml` stand on it. A call is tried again only where that
cannot do its work twice: see `Call.idempotent`.
"""

import io
import json
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import urlsplit

MAX_RESPONSE_BYTES: Final = 1 << 30
# A later try may succeed: too many requests, or a gateway without an upstream.
RETRIED: Final = frozenset({429, 502, 503, 504})
# RFC 9110, section 9.2.2. PATCH and POST are not, unless the call says so.
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
CHUNK_BYTES: Final = 1 << 20
MAX_IDLE: Final = 4


class TransportError(Exception):
    """No usable response came; the text says why, without the URL."""


class Response(NamedTuple):
    """Status, lower-case headers and body of an HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are not become U+FFFD."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class Call(NamedTuple):
    """One request.

    path: below the base URL, with its query. body: bytes, or a file that is sent from its start.
    idempotent: whether it may be sent twice; None: by its method, or because it carries an
    Idempotency-Key.
    """

    method: str
    path: str
    body: bytes | BinaryIO | None = None
    headers: Mapping[str, str] | None = None
    idempotent: bool | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether sending it twice does its work once."""
        if self.idempotent is not None:
            return self.idempotent
        named = {name.lower() for name in self.headers or ()}
        return self.method in IDEMPOTENT or "idempotency-key" in named


class Stream:
    """A response whose body arrives in parts. Reading raises TransportError."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self.status = response.status

    def read(self) -> Response:
        """The whole response."""
        with _named_failures():
            return _read(self._response, None)

    def lines(self) -> Iterator[bytes]:
        """The body's lines without their ends, each as soon as it is there; no empty ones."""
        while True:
            with _named_failures():
                line = self._response.readline()
            if not line:
                return
            if text := line.strip():
                yield text


@contextmanager
def _named_failures() -> Iterator[None]:
    """Failures of a connection as TransportError."""
    try:
        yield
    except (OSError, HTTPException) as error:
        raise TransportError(_reason(error)) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


class Transport:
    """Calls below one base URL, safe from several threads: each has a connection of its own."""

    def __init__(
        self,
        base_url: str,
        headers: Callable[[], Mapping[str, str]],
        timeout: float = 30.0,
        attempts: int = 3,
        connect_timeout: float | None = None,
    ) -> None:
        """headers: asked before each try, sent with it. timeout: seconds a socket operation;
        connect_timeout: to open a connection, by default the same.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"expected an http(s) URL, got {base_url!r}")
        self._host = parts.hostname
        self._port = parts.port
        self._base = parts.path
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._headers = headers
        self._timeout = timeout
        self._connect_timeout = timeout if connect_timeout is None else connect_timeout
        self._attempts = attempts
        self._idle: deque[HTTPConnection] = deque()

    def send(
        self, call: Call, into: BinaryIO | None = None, timeout: float | None = None
    ) -> Response:
        """The response, whatever its status; a 2xx body goes to `into` where given.

        timeout: seconds a socket operation, by default the transport's. Raises TransportError when
        no try brought a response.
        """
        attempts = self._attempts if call.may_repeat else 1
        seconds = self._timeout if timeout is None else timeout
        reason, result = "", None
        for attempt in range(attempts):
            if attempt:
                time.sleep(0.1 * 4 ** (attempt - 1))
            try:
                result = self._try(call, into, seconds)
            except (OSError, HTTPException) as error:
                reason, result = _reason(error), None
                continue
            if result.status not in RETRIED:
                break
        if result is None:
            raise TransportError(reason)
        return result

    @contextmanager
    def stream(self, call: Call) -> Iterator["Stream"]:
        """A response whose body is read as it comes, however long that takes; sent once.

        Raises TransportError.
        """
        connection = self._connect()
        try:
            with _named_failures():
                response = self._request(connection, call, None)
            yield Stream(response)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections that wait for a next call."""
        while self._idle:
            self._idle.pop().close()

    def _try(self, call: Call, into: BinaryIO | None, timeout: float) -> Response:
        connection = self._reusable()
        if connection is None:
            return self._exchange(self._connect(), call, into, timeout)
        try:
            return self._exchange(connection, call, into, timeout)
        except (ConnectionError, BadStatusLine):
            # The server closed an idle connection: finding that out is no try.
            if not call.may_repeat:
                raise
            return self._exchange(self._connect(), call, into, timeout)

    def _reusable(self) -> HTTPConnection | None:
        """An idle connection that the server has not closed, None where there is none."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not _is_readable(connection):
                return connection
            connection.close()

    def _connect(self) -> HTTPConnection:
        return self._kind(self._host, self._port, timeout=self._connect_timeout)

    def _exchange(
        self, connection: HTTPConnection, call: Call, into: BinaryIO | None, timeout: float
    ) -> Response:
        """One request on a connection, which waits for the next one if all went well."""
        try:
            response = self._request(connection, call, timeout)
            result = _read(response, into)
        except BaseException:
            connection.close()
            raise
        if not response.will_close and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return result

    def _request(
        self, connection: HTTPConnection, call: Call, timeout: float | None
    ) -> HTTPResponse:
        """Send a request and read the head of its response. timeout: None to wait for ever."""
        headers = {**self._headers(), **(call.headers or {})}
        body = call.body
        if body is not None and not isinstance(body, bytes):
            headers["Content-Length"] = str(body.seek(0, io.SEEK_END))
            body.seek(0)
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(timeout)
        try:
            connection.request(call.method, self._base + call.path, body=body, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server may refuse a body by a response and close before it has read it all.
            response = connection.getresponse()
            response.will_close = True
            return response
        return connection.getresponse()


def _is_readable(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to read: its end, or what nobody asked for."""
    if connection.sock is None:
        return False
    if not hasattr(select, "poll"):  # a client may run on Windows
        return bool(select.select([connection.sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(response: HTTPResponse, into: BinaryIO | None) -> Response:
    named = {name.lower(): value for name, value in response.getheaders()}
    if into is not None and 200 <= response.status < 300:
        into.seek(0)
        into.truncate()
        _copy(response, into)
        return Response(response.status, named, b"")
    body = response.read(MAX_RESPONSE_BYTES + 1)
    if len(body) > MAX_RESPONSE_BYTES:
        raise TransportError(f"the response is over {MAX_RESPONSE_BYTES} bytes")
    return Response(response.status, named, body)


def _copy(response: HTTPResponse, into: BinaryIO) -> None:
    """Copy a body. Raises IncompleteRead where the connection ends before its length."""
    expected = response.length
    copied = 0
    while block := response.read(CHUNK_BYTES):
        into.write(block)
        copied += len(block)
    if expected is not None and copied != expected:
        raise IncompleteRead(b"", expected - copied)
