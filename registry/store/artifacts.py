"""Records of artifacts; registry.blobs stores their bytes."""

from collections.abc import Iterable

from sqlalchemy import Connection, select

from registry.errors import InvalidRequestError, NotFoundError
from registry.names import timestamp
from registry.records import Artifact
from registry.store.upsert import insert_missing
from registry.tables import artifact


def put(connection: Connection, sha256: str, size: int) -> Artifact:
    """Record an artifact whose file is already durable; a repeat changes nothing."""
    insert_missing(connection, artifact, sha256=sha256, size=size, created_at=timestamp())
    return get(connection, sha256)


def get(connection: Connection, sha256: str) -> Artifact:
    """The artifact's record. Raises NotFoundError."""
    row = connection.execute(select(artifact).where(artifact.c.sha256 == sha256)).mappings().first()
    if row is None:
        raise NotFoundError(f"no artifact {sha256}")
    return Artifact(**row)


def require(connection: Connection, field: str, digests: Iterable[str]) -> None:
    """Raises InvalidRequestError naming `field` when one of the artifacts was not uploaded."""
    for sha256 in digests:
        known = connection.scalar(select(artifact.c.size).where(artifact.c.sha256 == sha256))
        if known is None:
            raise InvalidRequestError(
                f"{field}: expected an uploaded artifact (POST /artifacts), got unknown {sha256}"
            )
