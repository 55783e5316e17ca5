"""Routes for models, their versions and their aliases."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from registry.api.bodies import claim_of, read_json, validate
from registry.api.service import (
    AfterName,
    AfterNumber,
    AliasPath,
    Identity,
    Limit,
    NamePath,
    Registry,
    VersionPath,
    body_of,
    page,
    tagged,
)
from registry.api.wire import AliasIn, ModelVersionIn
from registry.errors import InvalidRequestError
from registry.idempotency import Reply
from registry.names import LATEST, valid_alias
from registry.store import aliases, models

router = APIRouter(prefix="/models")


@router.post("/{name}/versions")
async def register(
    request: Request, registry: Registry, identity: Identity, name: NamePath
) -> Response:
    """201 with the new version of the model."""
    raw = await read_json(request, registry.settings.json_bytes)
    content = validate(raw, ModelVersionIn).model_dump()
    return await registry.change(
        claim_of(request, raw),
        lambda connection: Reply(
            201, body_of(models.register(connection, name, content, identity))
        ),
    )


@router.get("")
async def list_all(registry: Registry, limit: Limit = 100, after: AfterName = "") -> dict[str, Any]:
    """A page of models by name."""
    found = await registry.read(lambda connection: models.list_all(connection, after, limit))
    return page("models", [body_of(one) for one in found], limit, "name")


@router.get("/{name}")
async def model(
    registry: Registry, name: NamePath, limit: Limit = 100, after: AfterNumber = 0
) -> dict[str, Any]:
    """The model, its aliases and a page of its versions."""

    def work(connection: Connection) -> dict[str, Any]:
        found = models.versions(connection, name, after, limit)
        versions = page("versions", [body_of(one) for one in found], limit, "version")
        return body_of(models.describe(connection, name), **versions)

    return await registry.read(work)


@router.get("/{name}/versions/{version}")
async def version_(registry: Registry, name: NamePath, version: VersionPath) -> dict[str, Any]:
    """One version of a model."""
    return body_of(await registry.read(lambda connection: models.get(connection, name, version)))


@router.put("/{name}/aliases/{alias}")
async def move_alias(
    request: Request, registry: Registry, identity: Identity, name: NamePath, alias: str
) -> Response:
    """Point the alias at a version; 409 with `current` when it does not match `expected`."""
    if not valid_alias(alias):
        raise InvalidRequestError(
            f"alias: expected [a-z][a-z0-9-]* of at most 64 characters, {LATEST} is computed, "
            f"got {alias[:100]!r}"
        )
    raw = await read_json(request, registry.settings.json_bytes)
    asked = validate(raw, AliasIn)
    move = aliases.Move(
        model=name,
        alias=alias,
        version=asked.version,
        compare="expected" in asked.model_fields_set,
        expected=asked.expected,
        reason=asked.reason,
        moved_by=identity,
    )
    return await registry.change(
        claim_of(request, raw), lambda connection: _moved(connection, move)
    )


@router.delete("/{name}/aliases/{alias}")
async def remove_alias(
    request: Request,
    registry: Registry,
    identity: Identity,
    name: NamePath,
    alias: AliasPath,
    expected: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Delete the alias; 200 with the version it pointed to."""
    move = aliases.Move(
        model=name,
        alias=alias,
        version=None,
        compare=expected is not None,
        expected=expected,
        reason="removed",
        moved_by=identity,
    )
    return await registry.change(
        claim_of(request, None), lambda connection: _moved(connection, move)
    )


def _moved(connection: Connection, move: aliases.Move) -> Reply:
    previous = aliases.move(connection, move)
    body = {"alias": move.alias, "version": move.version, "previous": previous}
    return Reply(200, {"model": move.model, **body})


@router.get("/{name}/aliases")
async def list_aliases(
    registry: Registry, name: NamePath, limit: Limit = 100, after: AfterName = ""
) -> dict[str, Any]:
    """A page of the model's aliases."""
    found = await registry.read(lambda connection: aliases.list_all(connection, name, after, limit))
    return page("aliases", [body_of(one) for one in found], limit, "alias")


@router.get("/{name}/aliases/{alias}")
async def alias_(
    request: Request, registry: Registry, name: NamePath, alias: AliasPath
) -> Response:
    """The version an alias (or `latest`) points to; 304 when If-None-Match still matches."""

    def work(connection: Connection) -> tuple[str, dict[str, Any]]:
        if alias == LATEST:
            newest = models.get(connection, name, LATEST)
            extra = {"alias": LATEST, "moved_at": newest.created_at}
            return f"{LATEST}-{newest.version}", body_of(newest, **extra)
        found = aliases.get(connection, name, alias)
        version = models.get(connection, name, str(found.version))
        extra = {"alias": alias, "moved_at": found.moved_at}
        return f"{found.move}-{found.version}", body_of(version, **extra)

    tag, body = await registry.read(work)
    return tagged(request, tag, body)


@router.get("/{name}/aliases/{alias}/history")
async def history(
    registry: Registry,
    name: NamePath,
    alias: AliasPath,
    limit: Limit = 100,
    after: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """A page of moves, newest first; `after` is the id of the last move of the previous page."""
    found = await registry.read(
        lambda connection: aliases.history(connection, name, alias, after, limit)
    )
    return page("history", [body_of(one) for one in found], limit, "id")
