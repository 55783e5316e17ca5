"""Routes for events (long poll) and logged predictions."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from registry.api.bodies import claim_of, read_json, validate
from registry.api.service import AfterNumber, Limit, Registry, Service, body_of, page
from registry.api.wire import PredictionIn, PredictionsIn
from registry.idempotency import Reply
from registry.names import NAME_PATTERN, timestamp
from registry.records import JsonObject, RegistryEvent
from registry.store import events, predictions

router = APIRouter()
LONGEST_WAIT: Final = 30.0
OTHERS_WRITE: Final = 1.0  # seconds between polls of a database that other processes write to
Kind = Literal["alias.moved", "alias.removed", "model.registered", "dataset.uploaded"]
Wait = Annotated[float, Query(ge=0, allow_inf_nan=False)]


@router.get("/events")
async def events_(
    registry: Registry,
    after: AfterNumber = 0,
    limit: Limit = 100,
    wait: Wait = 0.0,
    kind: Kind | None = None,
) -> dict[str, Any]:
    """Events after `after`, oldest first; waits up to `wait` seconds when there are none.

    `next` is the `after` of the following call, `last` the id of the newest event.
    """
    deadline = asyncio.get_running_loop().time() + min(wait, LONGEST_WAIT)
    found, last = await _wait(registry, (after, limit, kind), deadline)
    items = [body_of(one) for one in found]
    return {"events": items, "next": items[-1]["id"] if items else after, "last": last}


async def _wait(
    registry: Service, asked: tuple[int, int, Kind | None], deadline: float
) -> tuple[Sequence[RegistryEvent], int]:
    def work(connection: Connection) -> tuple[Sequence[RegistryEvent], int]:
        return events.after(connection, *asked), events.last(connection)

    while True:
        wait_for_event = (
            registry.notifier.listen()
        )  # before the read, so that no event is missed in between
        found, last = await registry.read(work)
        left = deadline - asyncio.get_running_loop().time()
        if found or left <= 0 or registry.notifier.closed:
            return found, last
        with registry.metrics.event_waits.track_inprogress():
            await wait_for_event(min(left, OTHERS_WRITE) if registry.database.shared else left)


@router.post("/predictions")
async def log_predictions(request: Request, registry: Registry) -> Response:
    """Store a batch: {"predictions": [...]} or the bare list."""
    raw = await read_json(request, registry.settings.json_bytes)
    asked = validate({"predictions": raw} if isinstance(raw, list) else raw, PredictionsIn)
    batch = [_row(one) for one in asked.predictions]
    return await registry.change(
        claim_of(request, raw),
        lambda connection: Reply(201, {"accepted": predictions.add(connection, batch)}),
    )


@router.get("/predictions")
async def predictions_(
    registry: Registry,
    model: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    function: Annotated[str | None, Query(max_length=250)] = None,
    limit: Limit = 100,
    after: AfterNumber = 0,
) -> dict[str, Any]:
    """A page of logged predictions in the order they were stored."""
    wanted = {"model": model, "version": version, "function": function}
    where = {name: value for name, value in wanted.items() if value is not None}
    found = await registry.read(
        lambda connection: predictions.after(connection, where, after, limit)
    )
    return page("predictions", [body_of(one) for one in found], limit, "id")


def _row(one: PredictionIn) -> JsonObject:
    return {**one.model_dump(), "at": timestamp(one.at)}
