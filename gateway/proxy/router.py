"""The http1 application of the gateway's port: functions below ASGI, services, then the REST API.

A target that was seen before costs one look-up. Web sockets are not tunnelled: a call that asks
for one gets 501 rather than a response that looks like one. /async-function/ belongs to the
queue, except for the DELETE of a call's id, which the API serves.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from gateway.metrics import FunctionMetrics
from gateway.proxy.client_call import (
    ClientCall,
    PreparedRequest,
    StreamedCall,
    is_small,
    prepare_request,
    request_line,
)
from gateway.proxy.headers import SERVED_BY, TEXT_TYPE, without
from gateway.proxy.invoker import Invoker
from gateway.proxy.routes import ReplicaConcurrency, Route
from gateway.settings import GatewaySettings
from gateway.types.errors import NotFoundError
from gateway.types.function import (
    FunctionDeployment,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from sluice.http1.exchange import Application, Exchange, Receiver

FUNCTION_PREFIX: Final = b"/function/"
ASYNC_PREFIX: Final = b"/async-function/"
# A call's id (RFC 9562), behind the prefix.
CALL_PATH: Final = re.compile(rb"/async-function/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"})
ALLOW: Final = b"allow: %b\r\n" % ", ".join(sorted(METHODS)).encode()
NAME_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
# Targets differ by their query, so the table is emptied when it is full.
KNOWN_TARGETS: Final = 4096
LONGEST_KNOWN_TARGET: Final = 512
# Headers that only the gateway may set for a service, or that a service need not see.
PRIVATE: Final = frozenset({b"authorization", b"x-sluice-identity"})
CHALLENGE: Final = b'www-authenticate: Basic realm="Restricted"\r\n'


class Caller(Protocol):
    """Who sent a request, as gateway.auth.authenticator identifies it."""

    @property
    def role(self) -> Literal["admin", "function"]:
        """What it may do; passed on to services."""


class AsyncCalls(Protocol):
    """Accepts asynchronous calls: the queue, where there is one."""

    def __call__(self, exchange: Exchange, route: Route, name: str, line: bytes) -> Receiver:
        """The receiver of a request for the function that the caller named `name`."""


class Identifier(Protocol):
    """What the router needs of gateway.auth.authenticator."""

    def identify(self, authorization: bytes | None, peer: str = "") -> Caller | None:
        """Who sent the header, or None when it proves no identity."""


class Refused:
    """The Receiver of a request to which the gateway itself responds.

    A small body is read first, so that the connection can be kept.
    """

    def __init__(self, exchange: Exchange, status: int, text: str, lines: bytes = b"") -> None:
        self._exchange = exchange
        self._response = status, TEXT_TYPE + SERVED_BY + lines, text.encode()
        if exchange.expects_continue or not is_small(exchange):
            exchange.respond(*self._response)

    def body_received(self, data: bytes) -> None:
        """Drop it."""

    def body_complete(self) -> None:
        self._exchange.respond(*self._response)

    def client_gone(self) -> None:
        """Nothing is held."""

    def writing_paused(self) -> None:
        """The response was sent already."""

    def writing_resumed(self) -> None:
        """The response was sent already."""


class Router:
    """Hands each exchange to the call, service or application that it belongs to.

    services: name -> socket of the programs behind /NAME/, for identified callers only; they see
    the path without that prefix. asgi: serves whatever is not a call. submission: accepts
    asynchronous calls.
    """

    def __init__(
        self,
        invoker: Invoker,
        auth: Identifier,
        services: Mapping[str, UnixAddress],
        asgi: Application,
        settings: GatewaySettings,
        submission: AsyncCalls | None = None,
    ) -> None:
        self._context = invoker.context
        self._activator = invoker.activator
        self._metrics = invoker.metrics
        self._auth = auth
        self._asgi = asgi
        self._submission = submission
        self._body_bytes: int = settings.body_bytes
        self._service_bytes: int = settings.service_bytes
        self._services = {
            name.encode(): _service_route(name, address, settings.service_timeout)
            for name, address in services.items()
        }
        # target -> (route, rest of the request line), good for one generation of routes.
        self._known: dict[bytes, tuple[Route, bytes]] = {}
        self._generation = self._activator.generation

    @property
    def known_targets(self) -> int:
        """How many targets are found without a look at the routes."""
        return len(self._known)

    def __call__(self, exchange: Exchange) -> Receiver:
        prepared = exchange.prepared
        if (
            isinstance(prepared, PreparedRequest)
            and prepared.generation == self._activator.generation
        ):
            return ClientCall(self._context, exchange, prepared.route, b"", prepared)
        if self._generation != self._activator.generation:
            self._known.clear()
            self._generation = self._activator.generation
        known = self._known.get(exchange.target)
        if known is None:
            return self._look_up(exchange)
        if exchange.upgrade is None and exchange.method in METHODS and is_small(exchange):
            if exchange.seen_before:
                exchange.prepared = prepare_request(exchange, known[1], known[0], self._generation)
            return ClientCall(self._context, exchange, known[0], known[1])
        return self._call(exchange, *known)

    def _call(self, exchange: Exchange, route: Route, line: bytes) -> Receiver:
        if _is_websocket(exchange):
            return Refused(exchange, 501, "websocket: calls are HTTP requests only\n")
        if exchange.method not in METHODS:
            return Refused(exchange, 405, "", ALLOW)
        return self._forward(exchange, route, line, self._body_bytes)

    def _forward(self, exchange: Exchange, route: Route, line: bytes, limit: int) -> Receiver:
        if is_small(exchange):
            return ClientCall(self._context, exchange, route, line)
        if (exchange.content_length or 0) > limit:
            return Refused(exchange, 413, f"body over {limit} bytes\n")
        return StreamedCall(self._context, exchange, route, line, limit)

    def _look_up(self, exchange: Exchange) -> Receiver:
        path = exchange.path
        if path.startswith(FUNCTION_PREFIX):
            return self._look_up_function(exchange)
        if path.startswith(ASYNC_PREFIX):
            return self._look_up_async(exchange)
        first, slash, rest = path[1:].partition(b"/")
        service = self._services.get(first)
        if service is not None:
            return self._serve(exchange, service, slash + rest)
        return self._asgi(exchange)

    def _look_up_function(self, exchange: Exchange) -> Receiver:
        found = self._find(exchange, FUNCTION_PREFIX)
        if isinstance(found, Refused):
            return found
        _, route, line = found
        if len(exchange.target) <= LONGEST_KNOWN_TARGET:
            if len(self._known) >= KNOWN_TARGETS:
                self._known.clear()
            self._known[exchange.target] = route, line
        return self._call(exchange, route, line)

    def _look_up_async(self, exchange: Exchange) -> Receiver:
        if exchange.method == "DELETE" and CALL_PATH.fullmatch(exchange.path):
            return self._asgi(exchange)
        if exchange.method not in METHODS:
            return Refused(exchange, 405, "", ALLOW)
        found = self._find(exchange, ASYNC_PREFIX)
        if isinstance(found, Refused):
            return found
        if self._submission is None:
            return Refused(exchange, 501, "this gateway has no queue\n")
        name, route, line = found
        return self._submission(exchange, route, name.decode(), line)

    def _find(self, exchange: Exchange, prefix: bytes) -> tuple[bytes, Route, bytes] | Refused:
        """The function's name as called, its route and the rest of its request line."""
        name, slash, rest = exchange.path[len(prefix) :].partition(b"/")
        if not name or name.translate(None, NAME_BYTES):
            return Refused(exchange, 404, "404 page not found\n")
        try:
            route = self._activator.route_named(name.decode())
        except NotFoundError as error:
            self._metrics.unknown += 1
            return Refused(exchange, 404, f"{error}\n")
        # OpenFaaS's gateway routes on the decoded path: a %2F reaches the function as a slash.
        rest = rest.replace(b"%2F", b"/").replace(b"%2f", b"/")
        line = request_line((slash or b"/") + rest + exchange.target[len(exchange.path) :])
        return name, route, line

    def _serve(self, exchange: Exchange, route: Route, path: bytes) -> Receiver:
        authorization = next((v for name, v in exchange.headers if name == b"authorization"), None)
        caller = self._auth.identify(authorization, exchange.peer)
        if caller is None:
            return Refused(exchange, 401, "invalid credentials", CHALLENGE)
        if _is_websocket(exchange):
            return Refused(exchange, 501, "websocket: not served here\n")
        exchange.headers = without(exchange.headers, PRIVATE)
        exchange.headers.append((b"x-sluice-identity", caller.role.encode()))
        line = request_line((path or b"/") + exchange.target[len(exchange.path) :])
        return self._forward(exchange, route, line, self._service_bytes)


def _is_websocket(exchange: Exchange) -> bool:
    return exchange.upgrade is not None and exchange.upgrade.lower() == b"websocket"


def _service_route(name: str, address: UnixAddress, seconds: float) -> Route:
    """A route with one replica that is always taken to be there."""
    replica = Replica(name, address, ReplicaState.READY)
    status = FunctionStatus(
        FunctionDeployment(FunctionId(name, ""), ""), 1, (replica,), datetime.now(UTC)
    )
    route = Route(status, FunctionMetrics(name), time.monotonic())
    route.name = name
    route.service = True
    route.timeout = seconds
    route.slots = [ReplicaConcurrency(route, replica, 0)]
    return route
