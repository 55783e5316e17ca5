"""Routes that upload, describe and download datasets."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from registry.api.artifacts import send_file
from registry.api.bodies import claim_of, stream
from registry.api.service import (
    AfterName,
    AfterNumber,
    Identity,
    Limit,
    NamePath,
    Registry,
    Service,
    VersionPath,
    body_of,
    page,
    response,
)
from registry.api.wire import UploadQuery
from registry.blobs import Spooled
from registry.datasets.ingest import ReadOptions, read_options
from registry.idempotency import Claim, Reply, seen
from registry.store import datasets

router = APIRouter(prefix="/datasets")
KINDS = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv; charset=utf-8"}


@router.post("/{name}")
async def upload(
    request: Request,
    registry: Registry,
    identity: Identity,
    name: NamePath,
    query: Annotated[UploadQuery, Query()],
) -> Response:
    """Read the body as a table; 201 with a new version, 200 with one of the same content."""
    kind = request.headers.get("content-type", "")
    asked = read_options(kind, query.format, query.delimiter, query.header, query.max_rejects)
    limit = registry.settings.dataset_bytes
    spooled = await registry.blobs.spool(stream(request, limit), limit)
    try:
        claim = claim_of(request, spooled.sha256)
        known = await registry.read(
            lambda connection: _known(connection, claim, name, spooled.sha256, asked)
        )
        if isinstance(known, Reply) and claim is None:
            return response(known)
        content = None if known else await _content(registry, spooled, asked)
    finally:
        spooled.discard()
    return await registry.change(
        claim, lambda connection: known or _stored(connection, name, content or {}, identity)
    )


def _known(
    connection: Any, claim: Claim | None, name: str, sha256: str, asked: ReadOptions
) -> Reply | None:
    """The reply when the same key or the same content was stored before, else None."""
    first = seen(connection, claim)
    if first is not None:
        return first
    version = datasets.same_content(connection, name, sha256, asked.form, asked.reading())
    return None if version is None else Reply(200, body_of(version))


def _stored(connection: Any, name: str, content: dict[str, Any], identity: str) -> Reply:
    version, fresh = datasets.add(connection, name, content, identity)
    return Reply(201 if fresh else 200, body_of(version))


async def _content(registry: Service, spooled: Spooled, asked: ReadOptions) -> dict[str, Any]:
    """The upload's description, after its files are in the store."""
    return await registry.ingest.read(spooled, asked)


@router.get("")
async def list_all(registry: Registry, limit: Limit = 100, after: AfterName = "") -> dict[str, Any]:
    """A page of datasets by name."""
    found = await registry.read(lambda connection: datasets.list_all(connection, after, limit))
    return page("datasets", [body_of(one) for one in found], limit, "name")


@router.get("/{name}")
async def versions(
    registry: Registry, name: NamePath, limit: Limit = 100, after: AfterNumber = 0
) -> dict[str, Any]:
    """A page of versions, with columns and rejects as counts; `version_` gives the details."""
    found = await registry.read(
        lambda connection: datasets.versions(connection, name, after, limit)
    )
    items = [body_of(one) for one in found]
    for item in items:
        item["rejects"] = {"count": item["rejects"]["count"]}
        item["columns"] = len(item["columns"])
    return {"name": name, **page("versions", items, limit, "version")}


@router.get("/{name}/versions/{version}")
async def version_(registry: Registry, name: NamePath, version: VersionPath) -> dict[str, Any]:
    """One version with its columns and rejected rows."""
    return body_of(await registry.read(lambda connection: datasets.get(connection, name, version)))


@router.api_route("/{name}/versions/{version}/content", methods=["GET", "HEAD"])
async def content(
    request: Request,
    registry: Registry,
    name: NamePath,
    version: VersionPath,
    format_: Annotated[Literal["parquet", "csv", "original"], Query(alias="format")] = "parquet",
) -> Response:
    """The table as Parquet or clean CSV, or the original upload."""
    found = await registry.read(lambda connection: datasets.get(connection, name, version))
    kind = KINDS[found.format if format_ == "original" else format_]
    return await send_file(request, registry, found.files[format_]["sha256"], kind)
