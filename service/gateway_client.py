"""Client of the gateway over persistent HTTP/1.1 connections: calls and lists functions."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from service.errors import CallTimeoutError, GatewayUnavailableError, ResponseTooLargeError
from sluice.http1.client import Address, ClientConnection, connect
from sluice.http1.errors import Http1Error
from sluice.http1.wire import header_lines

CONNECT_SECONDS: Final = 5.0
LIST_SECONDS: Final = 15.0
# Shorter than the gateway's 75 s, so that no call uses a connection the gateway is closing.
KEPT_SECONDS: Final = 30.0
KEPT_CONNECTIONS: Final = 256
RESPONSE_BYTES: Final = 16 * 1024 * 1024
USER_AGENT: Final = b"sluice-triggers"


@dataclass(frozen=True, slots=True)
class FunctionResponse:
    """The response of a function, or of the gateway itself. headers: lower-case names, in order."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def succeeded(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    def header(self, name: str) -> str:
        """The first value of a header by its lower-case name, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")


class UnsentError(Exception):
    """No byte of the request was sent, so it may be sent again."""


class ResponseCollector:
    """Collects one response; a ResponseListener."""

    __slots__ = ("_body", "_connection", "_head", "_limit", "_size", "future")

    def __init__(self, connection: ClientConnection, limit: int) -> None:
        self.future: asyncio.Future[tuple[FunctionResponse, bool]] = (
            asyncio.get_running_loop().create_future()
        )
        self._connection, self._limit = connection, limit
        self._head: tuple[int, tuple[tuple[str, str], ...]] = 0, ()
        self._body: list[bytes] = []
        self._size = 0

    def response_started(
        self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
    ) -> None:
        pairs = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in headers)
        self._head = status, pairs

    def response_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._body.append(data)
        elif not self.future.done():
            self._body.clear()
            self._connection.abort()
            text = f"an answer of more than {self._limit} bytes"
            self.future.set_exception(ResponseTooLargeError(text))

    def response_complete(self, reusable: bool) -> None:
        if not self.future.done():
            status, headers = self._head
            self.future.set_result(
                (FunctionResponse(status, headers, b"".join(self._body)), reusable)
            )

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        if not self.future.done():
            kind = error if isinstance(error, Http1Error) else Http1Error(str(error))
            self.future.set_exception(UnsentError(str(error)) if nothing_sent else kind)

    def sending_paused(self) -> None:
        """Nothing to pause: the request is a single write."""

    def sending_resumed(self) -> None:
        """Nothing to resume."""


@dataclass(frozen=True, slots=True)
class DeployedFunction:
    """A function in the gateway's list. replicas: desired count; available: ready count."""

    name: str
    namespace: str
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    replicas: int
    available: int

    @property
    def address(self) -> str:
        """NAME.NAMESPACE, for GatewayClient.call."""
        return f"{self.name}.{self.namespace}" if self.namespace else self.name


class FunctionCaller(Protocol):
    """The part of GatewayClient that callers of functions need."""

    async def call(  # noqa: PLR0913 - as GatewayClient has it
        self,
        function: str,
        *,
        method: str = "POST",
        path: str = "/",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float,  # noqa: ASYNC109 - as GatewayClient has it
        asynchronous: bool = False,
        response_bytes: int = ...,
    ) -> FunctionResponse:
        """The function's response. Raises CallError."""


class GatewayClient:
    """One gateway. url: `http://HOST:PORT[/PREFIX]`; socket: a Unix socket to use instead.

    Safe for any number of concurrent calls on one loop; the caller limits them.
    """

    def __init__(self, url: str, user: str, password: str, socket: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"expected an http URL of the gateway, got {url!r}")
        self.url = url.rstrip("/")
        self._address: Address = socket or (parts.hostname, parts.port or 80)
        self._prefix = parts.path.rstrip("/")
        self._host = parts.netloc.rpartition("@")[2].encode()
        login = base64.b64encode(f"{user}:{password}".encode())
        self._authorization = b"Basic " + login
        self._idle: list[ClientConnection] = []

    async def call(  # noqa: PLR0913 - the parts of a request, each by name
        self,
        function: str,
        *,
        method: str = "POST",
        path: str = "/",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float,  # noqa: ASYNC109 - the caller says how long a response may take
        asynchronous: bool = False,
        response_bytes: int = RESPONSE_BYTES,
    ) -> FunctionResponse:
        """The function's response, whatever its status. function: NAME or NAME.NAMESPACE.

        path: including the query. timeout: total seconds. A cancelled call closes its connection.
        Raises GatewayUnavailableError, CallTimeoutError, ResponseTooLargeError, and ValueError for
        a header that would break the request.
        """
        kind = "async-function" if asynchronous else "function"
        target = f"{self._prefix}/{kind}/{quote(function, safe='.')}{path}"
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        request = self._request(method, target, pairs, body)
        return await self._within(timeout, request, response_bytes)

    async def functions(self) -> list[DeployedFunction]:
        """Every function of every namespace. Raises GatewayUnavailableError, CallTimeoutError."""
        namespaces = await self._get("/system/namespaces")
        found: list[DeployedFunction] = []
        for namespace in namespaces or [""]:
            query = f"?namespace={quote(str(namespace), safe='')}" if namespace else ""
            listed = await self._get(f"/system/functions{query}")
            found += [_function(one, str(namespace)) for one in listed]
        return found

    async def post(self, path: str, value: object) -> FunctionResponse:
        """The response to a JSON value sent to the gateway's own API. Raises CallError."""
        pairs = [(b"authorization", self._authorization), (b"content-type", b"application/json")]
        body = json.dumps(value).encode()
        request = self._request("POST", self._prefix + path, pairs, body)
        return await self._within(LIST_SECONDS, request, RESPONSE_BYTES)

    def close(self) -> None:
        """Close idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _get(self, path: str) -> list[Any]:
        authorization = [(b"authorization", self._authorization)]
        request = self._request("GET", self._prefix + path, authorization, b"")
        response = await self._within(LIST_SECONDS, request, RESPONSE_BYTES)
        if response.status != 200:
            raise GatewayUnavailableError(
                f"{self.url}{path}: the gateway answered {response.status}"
            )
        try:
            value = json.loads(response.body)
        except ValueError as error:
            raise GatewayUnavailableError(f"{self.url}{path}: the answer is not JSON") from error
        if value is not None and not isinstance(value, list):
            raise GatewayUnavailableError(f"{self.url}{path}: expected a list")
        return value or []

    def _request(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        lines = [(b"host", self._host), (b"user-agent", USER_AGENT), *headers]
        if body or method not in {"GET", "HEAD", "DELETE"}:
            lines.append((b"content-length", b"%d" % len(body)))
        start = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
        if start.count(b" ") != 2 or start.count(b"\n") != 1:
            raise ValueError(f"path {target!r}: expected no white space")
        return start + header_lines(lines) + b"\r\n" + body

    async def _within(
        self, seconds: float, request: bytes, response_bytes: int
    ) -> FunctionResponse:
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(request, response_bytes)
        except TimeoutError as error:
            raise CallTimeoutError(f"{self.url}: no answer within {seconds:g} s") from error

    async def _exchange(self, request: bytes, response_bytes: int) -> FunctionResponse:
        connection = self._take()
        if connection is not None:
            try:
                return await self._ask(connection, request, response_bytes)
            except UnsentError:
                pass  # the idle connection was closed in the meantime: use a new one
        try:
            connection = await connect(self._address, CONNECT_SECONDS)
        except (OSError, Http1Error) as error:
            raise GatewayUnavailableError(
                f"{self.url}: {str(error) or type(error).__name__}"
            ) from error
        try:
            return await self._ask(connection, request, response_bytes)
        except UnsentError as error:
            raise GatewayUnavailableError(f"{self.url}: {error}") from error

    async def _ask(
        self, connection: ClientConnection, request: bytes, limit: int
    ) -> FunctionResponse:
        collector = ResponseCollector(connection, limit)
        connection.send(request, collector, head_only=request.startswith(b"HEAD "))
        try:
            response, reusable = await collector.future
        except asyncio.CancelledError:
            connection.abort()
            raise
        except Http1Error as error:
            raise GatewayUnavailableError(f"{self.url}: {error}") from error
        if reusable and len(self._idle) < KEPT_CONNECTIONS:
            self._idle.append(connection)
        elif reusable:
            connection.close()
        return response

    def _take(self) -> ClientConnection | None:
        oldest = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None


def _function(one: Mapping[str, Any], namespace: str) -> DeployedFunction:
    return DeployedFunction(
        name=str(one.get("name", "")),
        namespace=str(one.get("namespace") or namespace),
        annotations=dict(one.get("annotations") or {}),
        labels=dict(one.get("labels") or {}),
        replicas=int(one.get("replicas") or 0),
        available=int(one.get("availableReplicas") or 0),
    )
