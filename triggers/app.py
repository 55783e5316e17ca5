"""Composition: every object of the triggers is made and joined here."""

import asyncio
import importlib
import os
import socket
from typing import Final, Protocol

from pipelines.metrics import PipelineMetrics
from pipelines.service import PipelineService
from service.catalog import Catalog
from service.database import Database
from service.gateway_client import GatewayClient
from service.server import serve as serve_application
from sluice.settings import SettingError
from triggers.api import application
from triggers.cron.source import CronSource
from triggers.metrics import TriggersMetrics
from triggers.migrations import SCHEMA
from triggers.settings import TriggersSettings

SECRETS_SECONDS: Final = 30.0
SECRETS_LOOK: Final = 0.05


class Source(Protocol):
    """Something that runs as long as the process does."""

    async def run(self) -> None:
        """Work until cancelled."""


class Triggers:
    """All parts of one process. Opens the database; raises NewerSchemaError, SettingError."""

    def __init__(self, settings: TriggersSettings, user: str, password: str) -> None:
        self.settings = settings
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.metrics = TriggersMetrics()
        self.gateway = GatewayClient(settings.gateway_url, user, password)
        self.catalog = Catalog(self.gateway, settings.rebuild_interval)
        self.database = Database(settings.database_url, SCHEMA)
        self.pipelines = PipelineService(
            settings.pipelines,
            settings.process_name,
            self.gateway,
            self.catalog,
            self.database,
            PipelineMetrics(self.metrics.registry, self.metrics.failures),
        )
        self.cron = CronSource(settings, self.gateway, self.database, self.metrics, self.pipelines)
        self.sources: list[Source] = [self.catalog, self.cron, self.pipelines]
        self.catalog.subscribe(self.cron.apply)
        self.pipelines.subscribe(self.cron.apply_pipelines)
        if os.environ.get("KAFKA_BOOTSTRAP"):
            self.sources.append(self._kafka())

    def _kafka(self) -> Source:
        # Imported only where it is used: without a broker kafka-python is not needed.
        connector = importlib.import_module("triggers.kafka.connector").Connector
        source: Source = connector(
            self.settings, self.gateway, self.catalog, self.metrics, self.pipelines
        )
        return source

    async def close(self) -> None:
        """Close the connections, after what was accepted is written."""
        self.gateway.close()
        await asyncio.to_thread(self.database.close)


async def credentials(settings: TriggersSettings) -> tuple[str, str]:
    """User and password; waited for, as a gateway makes them at its first start.

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
    """Run every source and the API on `listener` until SIGTERM; a source that fails ends all."""
    triggers = Triggers(settings, *await credentials(settings))
    app = application(settings.pipelines, triggers.cron, triggers.pipelines, triggers.metrics)
    await triggers.pipelines.definitions.load()
    try:
        async with asyncio.TaskGroup() as group:
            sources = [group.create_task(source.run()) for source in triggers.sources]
            await serve_application(
                app, listener, settings.shutdown_grace, triggers.pipelines.stop_waiting
            )
            for source in sources:
                source.cancel()
    finally:
        await triggers.close()
