"""Idempotency keys: a repeated request gets the reply of the first one and changes nothing.

The key is written in the same transaction as the change, so neither can exist without the
other. A failed request leaves no key: it changed nothing and may be repeated.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update

from registry.errors import ConflictError
from registry.names import timestamp
from registry.store.upsert import insert_missing
from registry.tables import idempotency


@dataclass(frozen=True, slots=True)
class Claim:
    """A request with a key. route: method and path. request_sha256: hash of query and content."""

    route: str
    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a JSON-serializable body."""

    status: int
    body: dict[str, Any]


def idempotent(
    connection: Connection, claim: Claim | None, work: Callable[[Connection], Reply]
) -> Reply:
    """The reply of `work`, or of the first request that carried the same key.

    Raises ConflictError when the key was used for another request.
    """
    if claim is None:
        return work(connection)
    fresh = insert_missing(
        connection,
        idempotency,
        route=claim.route,
        key=claim.key,
        request_sha256=claim.request_sha256,
        created_at=timestamp(),
    )
    if not fresh:
        return _first(connection, claim)
    reply = work(connection)
    connection.execute(
        update(idempotency)
        .where(idempotency.c.route == claim.route, idempotency.c.key == claim.key)
        .values(status=reply.status, body=json.dumps(reply.body))
    )
    return reply


def seen(connection: Connection, claim: Claim | None) -> Reply | None:
    """The reply of the first request with the key of `claim`, if any. Raises ConflictError."""
    if claim is None:
        return None
    known = connection.scalar(
        select(idempotency.c.key).where(
            idempotency.c.route == claim.route, idempotency.c.key == claim.key
        )
    )
    return None if known is None else _first(connection, claim)


def forget_old(connection: Connection, kept_seconds: float) -> int:
    """Delete keys older than `kept_seconds`; returns how many."""
    oldest = timestamp(datetime.now(UTC) - timedelta(seconds=kept_seconds))
    return connection.execute(delete(idempotency).where(idempotency.c.created_at < oldest)).rowcount


def _first(connection: Connection, claim: Claim) -> Reply:
    row = connection.execute(
        select(idempotency).where(
            idempotency.c.route == claim.route, idempotency.c.key == claim.key
        )
    ).one()
    if row.request_sha256 != claim.request_sha256:
        raise ConflictError(
            f"Idempotency-Key {claim.key!r} was used for another request to {claim.route}; "
            "expected a new key for a new request"
        )
    return Reply(row.status, json.loads(row.body))
