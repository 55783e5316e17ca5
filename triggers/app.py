"""Composition: every object of the triggers is made and joined here."""

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import Final, Protocol

import uvicorn

from settings import SettingError
from triggers.api.routes import application
from triggers.catalog import Catalog
from triggers.cron.source import CronSource
from triggers.database import Database
from triggers.gateway import GatewayClient
from triggers.metrics import TriggersMetrics
from triggers.pipelines.service import PipelineService
from triggers.settings import TriggersSettings

KEEP_ALIVE: Final = 90  # seconds; longer than the gateway keeps an idle connection
SECRETS_SECONDS: Final = 30.0
SECRETS_LOOK: Final = 0.05
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
log = logging.getLogger("triggers")


class Source(Protocol):
    """Something that goes on for as long as the process does."""

    async def run(self) -> None:
        """Work until cancelled."""


class Triggers:
    """All parts of one process. Opens the database; raises SchemaTooNewError, SettingError."""

    def __init__(self, settings: TriggersSettings, user: str, password: str) -> None:
        self.settings = settings
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.metrics = TriggersMetrics()
        self.gateway = GatewayClient(settings.gateway_url, user, password)
        self.catalog = Catalog(self.gateway, settings.rebuild_interval)
        self.database = Database(settings.database_url)
        self.pipelines = PipelineService(
            settings, self.gateway, self.catalog, self.database, self.metrics
        )
        self.cron = CronSource(settings, self.gateway, self.database, self.metrics)
        self.cron.pipelines = self.pipelines
        self.sources: list[Source] = [self.catalog, self.cron, self.pipelines]
        self.catalog.subscribe(self.cron.apply)
        self.pipelines.subscribe(self.cron.apply_pipelines)
        if os.environ.get("KAFKA_BOOTSTRAP"):
            self.sources.append(self._kafka())

    def _kafka(self) -> Source:
        # Imported only where it is used: without a broker nothing of kafka-python is needed.
        connector = importlib.import_module("triggers.kafka.connector").Connector
        source: Source = connector(
            self.settings, self.gateway, self.catalog, self.metrics, self.pipelines
        )
        return source

    async def close(self) -> None:
        """Let go of connections, after what was accepted is written."""
        self.gateway.close()
        await asyncio.to_thread(self.database.close)


class Server(uvicorn.Server):
    """uvicorn's server for a process that ends with 0 on SIGTERM, after its own clean-up.

    Overrides `capture_signals`, which would raise the signal again, and `shutdown`, so that
    long polls end at once.
    """

    def __init__(self, config: uvicorn.Config, pipelines: PipelineService) -> None:
        super().__init__(config)
        self._pipelines = pipelines

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOPS:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._pipelines.stop_waiting()
        await super().shutdown(sockets)


async def credentials(settings: TriggersSettings) -> tuple[str, str]:
    """User and password; waited for, since a gateway on its first start makes them meanwhile.

    Raises SettingError where they do not come.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + SECRETS_SECONDS
    while True:
        try:
            return settings.credentials()
        except SettingError:
            if loop.time() > until or settings.secret_mount_path:
                raise
        await asyncio.sleep(SECRETS_LOOK)


async def serve(settings: TriggersSettings, listener: socket.socket) -> None:
    """Run every source and answer on `listener` until SIGTERM; a source that fails ends all."""
    triggers = Triggers(settings, *await credentials(settings))
    config = uvicorn.Config(
        application(settings, triggers.cron, triggers.pipelines, triggers.metrics),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )
    server = Server(config, triggers.pipelines)
    await triggers.pipelines.load()
    log.info("event=listening socket=%s", settings.socket_path)
    try:
        async with asyncio.TaskGroup() as group:
            sources = [group.create_task(source.run()) for source in triggers.sources]
            await server.serve(sockets=[listener])
            for source in sources:
                source.cancel()
    finally:
        await triggers.close()
