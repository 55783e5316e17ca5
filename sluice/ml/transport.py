"""One HTTP/1.1 client over http.client: keep-alive, timeouts, retries. Standard library only.

Every call may be sent twice: GET, PATCH and a compare-and-set PUT are harmless to repeat, a POST
carries an Idempotency-Key. So errors of the connection, and answers that say "later", are retried.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
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

from sluice.ml.errors import UnavailableError

MAX_RESPONSE_BYTES: Final = 1 << 30
RETRIED: Final = frozenset({429, 502, 503, 504})
CHUNK_BYTES: Final = 1 << 20
MAX_IDLE: Final = 4


class Response(NamedTuple):
    """Status, lower-case headers and body of an HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises UnavailableError: what answers something else is no registry."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise UnavailableError("the registry's answer is not JSON") from error


class Call(NamedTuple):
    """One request. path: below the base URL, with its query."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] | None = None


class Transport:
    """Calls below one base URL, safe from several threads: each has a connection of its own."""

    def __init__(
        self,
        base_url: str,
        headers: Callable[[], Mapping[str, str]],
        timeout: float = 30.0,
        attempts: int = 3,
    ) -> None:
        """headers: asked before each try, sent with it. timeout: seconds a socket operation."""
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"expected an http(s) URL, got {base_url!r}")
        self._host = parts.hostname
        self._port = parts.port
        self._base = parts.path
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._headers = headers
        self._timeout = timeout
        self._attempts = attempts
        self._idle: deque[HTTPConnection] = deque()

    def send(self, call: Call, into: BinaryIO | None = None) -> Response:
        """The answer, whatever its status; a 2xx body goes to `into` where given.

        Raises UnavailableError when no try brought one, or the last was a 429, 502, 503 or 504.
        """
        reason = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(0.1 * 4 ** (attempt - 1))
            try:
                result = self._try(call, into)
            except (OSError, HTTPException) as error:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            if result.status not in RETRIED:
                return result
            reason = f"it answered {result.status}"
        raise UnavailableError(f"can not reach the registry: {reason}")

    def close(self) -> None:
        """Close the connections that wait for a next call."""
        while self._idle:
            self._idle.pop().close()

    def _try(self, call: Call, into: BinaryIO | None) -> Response:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._exchange(self._connect(), call, into)
        try:
            return self._exchange(connection, call, into)
        except (ConnectionError, BadStatusLine):
            # The server closed an idle connection: finding that out is no try.
            return self._exchange(self._connect(), call, into)

    def _connect(self) -> HTTPConnection:
        return self._kind(self._host, self._port, timeout=self._timeout)

    def _exchange(self, connection: HTTPConnection, call: Call, into: BinaryIO | None) -> Response:
        """One request on a connection, which waits for the next one if all went well."""
        try:
            result = self._ask(connection, call, into)
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return result

    def _ask(self, connection: HTTPConnection, call: Call, into: BinaryIO | None) -> Response:
        headers = {**self._headers(), **(call.headers or {})}
        connection.request(call.method, self._base + call.path, body=call.body, headers=headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        if into is not None and 200 <= response.status < 300:
            into.seek(0)
            into.truncate()
            _copy(response, into)
            return Response(response.status, named, b"")
        body = response.read(MAX_RESPONSE_BYTES + 1)
        if len(body) > MAX_RESPONSE_BYTES:
            raise UnavailableError(f"the registry's answer is over {MAX_RESPONSE_BYTES} bytes")
        return Response(response.status, named, body)


def _copy(response: HTTPResponse, into: BinaryIO) -> None:
    """Copy a body. Raises IncompleteRead where the connection ends before its length."""
    promised = response.length
    copied = 0
    while block := response.read(CHUNK_BYTES):
        into.write(block)
        copied += len(block)
    if promised is not None and copied != promised:
        raise IncompleteRead(b"", promised - copied)
