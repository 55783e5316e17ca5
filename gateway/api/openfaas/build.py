"""OpenFaaS's remote-builder API: takes a signed tar, streams the build's progress."""

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.api.control import ControlPlane, StreamLimit
from gateway.api.openfaas.build_events import Builder, collect, failed, limited, stream
from gateway.api.requests import check_length, check_size
from gateway.api.streams import NDJSON, ClientGoneError, NdjsonResponse, Until, unless_gone
from gateway.types.errors import DeadlineExceededError, OverloadedError, SluiceError

SIGNATURE: Final = "x-build-signature"
WRITE_BYTES: Final = 1024 * 1024
UPLOAD_SUFFIX: Final = ".upload.tar"


class SignatureError(SluiceError):
    """The body was not signed with the payload secret."""

    status = 401


def routes(control: ControlPlane, builder: Builder, uploads: Path) -> APIRouter:
    """Routes of /build and /publickey.

    uploads: a folder for build contexts alone; files that a killed gateway left there are removed.
    """
    uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in uploads.glob(f"*{UPLOAD_SUFFIX}"):
        left.unlink()
    router = APIRouter()
    handlers = _Builds(control, builder, uploads)
    router.add_api_route("/build", handlers.build, methods=["POST"])
    router.add_api_route("/publickey", handlers.public_key, methods=["GET"])
    return router


class _Builds:
    def __init__(self, control: ControlPlane, builder: Builder, uploads: Path) -> None:
        self._control, self._builder, self._uploads = control, builder, uploads
        self._settings = control.settings
        self._slots = StreamLimit(control.settings.builds)

    async def public_key(self, request: Request) -> Response:
        return PlainTextResponse(
            "this builder has no public key: build secrets are not supported", status_code=404
        )

    async def build(self, request: Request) -> Response:
        if SIGNATURE not in request.headers:
            raise SignatureError(f"expected the header {SIGNATURE}")
        check_length(request, self._settings.build_bytes)
        if not self._slots.take():
            raise OverloadedError(f"{self._settings.builds} builds are running already")
        try:
            async with AsyncExitStack() as cleanup:
                cleanup.callback(self._slots.give_back)
                tar = await self._receive(request, cleanup)
                return await self._response(request, tar, cleanup)
        except ClientGoneError:
            return Response(status_code=400)

    async def _response(self, request: Request, tar: Path, cleanup: AsyncExitStack) -> Response:
        """The response, started by the builder's first event, which may refuse the build."""
        events = limited(self._builder.build(tar), self._settings.build_timeout)
        cleanup.push_async_callback(events.aclose)
        if NDJSON not in request.headers.get("accept", ""):
            return JSONResponse(await unless_gone(request.receive, collect(events)))
        first = await unless_gone(request.receive, anext(events, None))
        until = Until(self._control.stopping, farewell=failed("the gateway is stopping"))
        return NdjsonResponse(stream(first, events), cleanup.pop_all(), until)

    async def _receive(self, request: Request, cleanup: AsyncExitStack) -> Path:
        """The body in a file that `cleanup` removes.

        Raises SignatureError, DeadlineExceededError.
        """
        descriptor, name = tempfile.mkstemp(dir=self._uploads, suffix=UPLOAD_SUFFIX)
        cleanup.callback(os.unlink, name)
        try:
            async with asyncio.timeout(self._settings.build_upload_timeout):
                await self._save(request, descriptor)
        except TimeoutError as error:
            seconds = self._settings.build_upload_timeout
            raise DeadlineExceededError(f"body: it did not arrive within {seconds:g} s") from error
        return Path(name)

    async def _save(self, request: Request, descriptor: int) -> None:
        mac, size, limit = self._control.auth.body_hmac(), 0, self._settings.build_bytes
        buffer = bytearray()
        with os.fdopen(descriptor, "wb") as file:

            def flush() -> None:
                mac.update(buffer)
                file.write(buffer)
                buffer.clear()

            async for piece in request.stream():
                size += len(piece)
                check_size(size, limit)
                buffer += piece
                if len(buffer) >= WRITE_BYTES:
                    await asyncio.to_thread(flush)
            await asyncio.to_thread(flush)
        signature = request.headers[SIGNATURE].encode("latin-1")
        if not self._control.auth.signed(mac.digest(), signature):
            raise SignatureError(f"{SIGNATURE}: expected the body's HMAC-SHA256, got another value")
