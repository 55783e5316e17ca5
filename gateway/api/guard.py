"""Checks before every route: clean paths, the password, no requests from other web sites."""

import math
import posixpath
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.authenticator import Auth

# Calls of functions do not come here; of /async-function/ only the DELETE of a queued call does.
GUARDED: Final = ("/system/", "/ui/", "/async-function/")
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE: Final = {"www-authenticate": 'Basic realm="Restricted"'}


class Guard:
    """An ASGI application that passes authorised requests to `app`.

    Everything under GUARDED needs the password. It is checked by path, so that no route can be
    forgotten, and on the same decoded path that the router sees.
    """

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app, self._auth = app, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if (clean := cleaned(path)) != path:
            return _moved(clean, scope["query_string"])
        if not path.startswith(GUARDED):
            return None
        headers = Headers(scope=scope)
        if scope["method"] not in SAFE_METHODS and _from_elsewhere(headers):
            return PlainTextResponse("requests of other web sites are refused", status_code=403)
        return self._unauthorised(scope, headers)

    def _unauthorised(self, scope: Scope, headers: Headers) -> Response | None:
        client = scope.get("client")
        peer = f"{client[0]}:{client[1]}" if client else "unix"
        given = headers.get("authorization")
        identity = self._auth.identify(given.encode("latin-1") if given else None, peer)
        if identity is not None:
            if identity.role == "admin":
                return None
            return PlainTextResponse("a function's token opens /registry/ only", status_code=403)
        wait = self._auth.retry_after(peer)
        if wait > 0:
            retry = {"retry-after": str(math.ceil(wait))}
            return PlainTextResponse("too many failed log-ins", status_code=429, headers=retry)
        return PlainTextResponse("invalid credentials", status_code=401, headers=CHALLENGE)


def cleaned(path: str) -> str:
    """The path without doubled slashes, `.` and `..`, with its last slash; as Go's mux does."""
    if "//" not in path and "/." not in path:
        return path
    clean = posixpath.normpath(path).replace("//", "/")
    if path.endswith(("/", "/.", "/..")) and not clean.endswith("/"):
        clean += "/"
    return clean


def _moved(path: str, query: bytes) -> Response:
    location = quote(path) + (f"?{query.decode('latin-1')}" if query else "")
    return Response(status_code=301, headers={"location": location})


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser sent the request for a page of another origin."""
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
