"""Composition: creates every object of the registry and connects them."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Final

from fastapi import FastAPI
from sqlalchemy import Connection

from registry import idempotency
from registry.api import artifacts, datasets, events, models, runs
from registry.api.guard import Guard, install_errors
from registry.api.service import Registry, Service
from registry.blobs import Blobs
from registry.datasets.ingest import Ingest
from registry.metrics import RegistryMetrics
from registry.migrations import SCHEMA
from registry.settings import RegistrySettings
from registry.store import events as event_store
from registry.store import predictions as prediction_store
from service.database import Database
from service.server import serve as serve_application

TIDY_EVERY: Final = 600.0  # seconds between removals of rows past their limits
log = logging.getLogger(__name__)


async def serve(settings: RegistrySettings, listener: socket.socket) -> None:
    """Serve requests on `listener` until SIGTERM."""
    app = create(settings)
    service: Service = app.state.service
    await serve_application(app, listener, settings.shutdown_grace, service.notifier.close)


def create(settings: RegistrySettings) -> FastAPI:
    """The application; opens the database and removes files left by a crash.

    The caller holds the lock on the data folder.
    """
    for folder in (settings.folder, settings.artifacts_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    blobs = Blobs(settings.artifacts_dir)
    leftovers = blobs.prepare()
    database = open_database(settings.database_url)
    metrics = RegistryMetrics()
    service = Service(settings, database, blobs, Ingest(settings, blobs, metrics), metrics)
    log.info("event=opened schema=%d leftovers=%d", database.version, leftovers)
    app = FastAPI(
        title="Sluice registry", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan
    )
    app.state.service = service
    app.add_middleware(Guard, metrics=metrics)
    install_errors(app)
    for router in (datasets.router, artifacts.router, runs.router, models.router, events.router):
        app.include_router(router)
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/metrics", metrics.response, methods=["GET"])
    return app


def open_database(url: str) -> Database:
    """The registry's database with its tables up to date. Raises NewerSchemaError."""
    # One write per commit: registries on one PostgreSQL contend for counter and alias rows.
    return Database(url, SCHEMA, shared_group=1)


async def healthz(registry: Registry) -> dict[str, object]:
    """Report ok with the schema version and the newest event id; reads the database."""
    last = await registry.read(event_store.last)
    return {"status": "ok", "schema": registry.database.version, "last_event": last}


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    tidy = asyncio.create_task(_tidy(service), name="registry-tidy")
    try:
        yield
    finally:
        service.notifier.close()
        tidy.cancel()
        await asyncio.gather(tidy, return_exceptions=True)
        await asyncio.to_thread(service.database.close)


async def _tidy(service: Service) -> None:
    """Remove old rows every TIDY_EVERY seconds until cancelled."""
    while True:
        try:
            gone = await service.database.write(lambda connection: forget_old(service, connection))
            if gone:
                log.info("event=tidied rows=%d", gone)
        except Exception:
            log.exception("event=tidy-failed")
        await asyncio.sleep(TIDY_EVERY)


def forget_old(service: Service, connection: Connection) -> int:
    """Delete idempotency keys, events and predictions past their limits; returns the row count."""
    settings = service.settings
    return (
        idempotency.forget_old(connection, settings.idempotency_kept)
        + event_store.forget_old(connection, settings.events_kept)
        + prediction_store.forget_old(connection, settings.predictions_kept)
    )
