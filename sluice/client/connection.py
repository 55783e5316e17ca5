"""Requests of one gateway with its credentials; every failure is a ClientError."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from sluice.client.errors import (
    AuthenticationError,
    ClientError,
    ConflictError,
    NotFoundError,
    StatusError,
    UnreachableError,
)
from sluice.transport import Call, Response, Stream, Transport, TransportError

CONNECT_SECONDS: Final = 5.0
SHOWN: Final = 2000  # characters of a response in an error
JSON: Final = "application/json"
NAMES: Final[Mapping[type, str]] = {dict: "object", list: "array"}
ERRORS: Final[Mapping[int, type[StatusError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
}


T = TypeVar("T", dict[str, Any], list[Any])


@dataclass(frozen=True, slots=True)
class Request:
    """One request. path: without its query, percent-encoded. query: empty values are left out.

    body: sent as it is; document: sent as JSON. key: an Idempotency-Key. idempotent: that it may
    be sent twice although its method does not say so. timeout: seconds a socket operation.
    """

    method: str
    path: str
    query: Mapping[str, str | int | None] = field(default_factory=dict)
    body: bytes | BinaryIO | None = None
    document: Any = None
    content_type: str = ""
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool | None = None
    timeout: float | None = None

    def call(self) -> Call:
        """The call that the transport makes of it."""
        body, kind = self.body, self.content_type
        if self.document is not None:
            body, kind = json.dumps(self.document, allow_nan=False).encode(), kind or JSON
        headers = dict(self.headers)
        if kind:
            headers["Content-Type"] = kind
        if self.key:
            headers["Idempotency-Key"] = self.key
        given = {name: value for name, value in self.query.items() if value not in {None, ""}}
        path = f"{self.path}?{urlencode(given)}" if given else self.path
        return Call(self.method, path, body, headers, self.idempotent)


class Connection:
    """Requests of one gateway.

    authorization: value of that header, empty for none; hint: what to do where it is refused.
    Raises ValueError for what is no http(s) URL.
    """

    def __init__(self, url: str, authorization: str, hint: str, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise ValueError("the gateway's URL holds a user: pass username= and password=")
        self.url = url.rstrip("/")
        self._hint = hint
        headers = {"Authorization": authorization} if authorization else {}
        self._transport = Transport(
            self.url, lambda: headers, timeout, connect_timeout=min(timeout, CONNECT_SECONDS)
        )

    def close(self) -> None:
        """Close the connections that wait for a next request."""
        self._transport.close()

    def send(self, request: Request, into: BinaryIO | None = None) -> Response:
        """The response, whatever its status. Raises UnreachableError."""
        try:
            return self._transport.send(request.call(), into, request.timeout)
        except TransportError as error:
            raise self._unreachable(request, error) from error

    def request(self, request: Request, into: BinaryIO | None = None) -> Response:
        """The response, which is a 2xx. Raises StatusError, UnreachableError."""
        response = self.send(request, into)
        if not response.ok:
            raise self.refused(request, response)
        return response

    def json(self, request: Request, expected: type[T]) -> T:
        """The JSON of a 2xx response: an object (dict) or an array (list).

        Raises StatusError, UnreachableError, ClientError for something else.
        """
        response = self.request(request)
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, expected):
            raise ClientError(
                f"{request.method} {self.url}{request.path}: the response is no JSON"
                f" {NAMES[expected]}: is this the URL of a Sluice gateway?"
            )
        return value

    @contextmanager
    def stream(self, request: Request) -> Iterator[Stream]:
        """A 2xx response that is read as it comes. Raises StatusError, UnreachableError."""
        try:
            with self._transport.stream(request.call()) as stream:
                if not 200 <= stream.status < 300:
                    raise self.refused(request, stream.read())
                yield stream
        except TransportError as error:
            raise self._unreachable(request, error) from error

    def refused(self, request: Request, response: Response) -> StatusError:
        """The error of a response that is none of 2xx, with the gateway's own words."""
        details = _details(response)
        message = details.pop("error", None)
        text = message if isinstance(message, str) else response.text.strip()[:SHOWN]
        if not text:
            text = _phrase(response.status)
        if response.status == HTTPStatus.UNAUTHORIZED:
            text = f"{text}; {self._hint}"
        kind = ERRORS.get(response.status, StatusError)
        what = f"{request.method} {request.path} answered {response.status}"
        return kind(f"{what}: {text}", response, details)

    def _unreachable(self, request: Request, error: TransportError) -> UnreachableError:
        return UnreachableError(f"{request.method} {self.url}{request.path}: {error}")


def basic(username: str, password: str) -> str:
    """The value of the Authorization header for a user and a password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def segment(text: str) -> str:
    """A name as one segment of a path. Raises ValueError for one that a server would resolve."""
    if text in {"", ".", ".."}:
        raise ValueError(f"expected a name, got {text!r}")
    return quote(text, safe="")


def _details(response: Response) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"
