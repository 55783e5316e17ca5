"""Routes that upload and download artifacts by sha256."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse

from registry.api.bodies import claim_of, stream
from registry.api.service import DigestPath, Registry, Service, body_of, fresh
from registry.blobs import check_digest
from registry.errors import InvalidRequestError
from registry.idempotency import Reply
from registry.names import valid_sha256
from registry.store import artifacts

router = APIRouter(prefix="/artifacts")


@router.post("")
async def upload(
    request: Request,
    registry: Registry,
    x_content_sha256: Annotated[str | None, Header()] = None,
) -> Response:
    """Store the body; 201 also when it was stored before, since the outcome is the same."""
    if x_content_sha256 is not None and not valid_sha256(x_content_sha256.lower()):
        raise InvalidRequestError("X-Content-SHA256: expected 64 hex digits")
    limit = registry.settings.artifact_bytes
    spooled = await registry.blobs.spool(stream(request, limit), limit)
    try:
        check_digest(spooled, x_content_sha256)
        claim = claim_of(request, spooled.sha256)
        await asyncio.to_thread(registry.blobs.adopt, spooled)
    finally:
        spooled.discard()
    return await registry.change(
        claim,
        lambda connection: Reply(
            201, body_of(artifacts.put(connection, spooled.sha256, spooled.size))
        ),
    )


@router.api_route("/{sha256}", methods=["GET", "HEAD"])
async def download(request: Request, registry: Registry, sha256: DigestPath) -> Response:
    """The bytes of an artifact; supports If-None-Match and Range."""
    await registry.read(lambda connection: artifacts.get(connection, sha256))
    return await send_file(request, registry, sha256, "application/octet-stream")


async def send_file(request: Request, registry: Service, sha256: str, kind: str) -> Response:
    """A blob as a streamed response whose ETag is its sha256."""
    headers = {"ETag": f'"{sha256}"', "Cache-Control": "max-age=31536000, immutable"}
    if fresh(request, sha256):
        return Response(status_code=304, headers=headers)
    path = registry.blobs.path(sha256)
    if registry.settings.verify_reads:
        await asyncio.to_thread(registry.blobs.verify, sha256)
    return FileResponse(path, media_type=kind, headers=headers)
