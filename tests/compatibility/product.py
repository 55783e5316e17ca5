"""Everything that these tests import from the product: a move of modules changes this file only."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from pydantic import BaseModel

from gateway.api.openfaas import wire as gateway_wire
from gateway.app import Gateway
from gateway.backends import embedded
from gateway.building.bundles import Bundles
from gateway.building.environments import Environments
from gateway.building.locking import lock_key
from gateway.building.uv import Uv
from gateway.metrics import METRICS as GATEWAY_METRICS
from gateway.queue import postgres
from gateway.queue.metrics import METRICS as QUEUE_METRICS
from gateway.queue.retries import ATTEMPTS, CODES, MAX_WAIT, MIN_WAIT, RetryPolicy
from gateway.scaling_options import OPTIONS
from gateway.settings import GatewaySettings
from registry.api import wire as registry_wire
from registry.app import create
from registry.metrics import RegistryMetrics
from registry.migrations import SCHEMA as REGISTRY_SCHEMA
from registry.settings import RegistrySettings, read_settings
from service.schema import Schema
from sluice.cli.settings import CliSettings
from sluice.client.settings import ClientSettings
from sluice.runtime.python.batching import batch
from sluice.runtime.serving.exposition import RuntimeCollector
from sluice.runtime.serving.metrics import Metrics
from sluice.runtime.settings import RuntimeSettings
from triggers.api.routes import application
from triggers.app import Triggers
from triggers.cron.entries import ASYNC, MISFIRE, SCHEDULE, ZONE, entries_of
from triggers.gateway import DeployedFunction
from triggers.kafka.metrics import KafkaMetrics
from triggers.kafka.options import KafkaOptions
from triggers.kafka.settings import KafkaSettings
from triggers.metrics import TriggersMetrics
from triggers.migrations import SCHEMA as TRIGGERS_SCHEMA
from triggers.settings import TriggersSettings

__all__ = [
    "GATEWAY_ROWS",
    "KAFKA_OPTIONS",
    "QUEUE_SCRIPTS",
    "REQUESTS",
    "SCHEMAS",
    "SETTINGS",
    "annotations_of_cron",
    "annotations_of_retries",
    "annotations_of_scaling",
    "gateway",
    "make_environment",
    "registries",
    "registry",
    "replica_families",
    "triggers",
]

SETTINGS: Final[Mapping[str, tuple[type[Any], ...]]] = {
    "gateway": (GatewaySettings,),
    "kafka": (KafkaSettings,),
    "registry": (RegistrySettings,),
    "runtime": (RuntimeSettings,),
    "sluice": (ClientSettings, CliSettings),
    "triggers": (TriggersSettings,),
}
KAFKA_OPTIONS: Final = KafkaOptions
REQUESTS: Final[Mapping[str, type[BaseModel]]] = {
    "DELETE /system/functions": gateway_wire.DeleteWire,
    "DELETE /system/secrets": gateway_wire.SecretNameWire,
    "POST /system/functions": gateway_wire.FunctionWire,
    "POST /system/namespace/": gateway_wire.NamespaceWire,
    "POST /system/scale-function/{name}": gateway_wire.ScaleWire,
    "POST /system/secrets": gateway_wire.SecretWire,
    "PATCH /registry/runs/{id}": registry_wire.RunEndIn,
    "POST /registry/datasets/{name}?": registry_wire.UploadQuery,
    "POST /registry/feature-sets": registry_wire.FeatureSetIn,
    "POST /registry/models/{name}/versions": registry_wire.ModelVersionIn,
    "POST /registry/predictions": registry_wire.PredictionsIn,
    "POST /registry/runs": registry_wire.RunIn,
    "POST /registry/runs/{id}/artifacts": registry_wire.RunArtifactIn,
    "POST /registry/runs/{id}/metrics": registry_wire.MetricsIn,
    "POST /registry/runs/{id}/params": registry_wire.ParamsIn,
    "PUT /registry/models/{name}/aliases/{alias}": registry_wire.AliasIn,
}
# Name, type and labels of each series that the gateway collects by itself.
GATEWAY_ROWS: Final = [
    (row.name, row.type, row.labels) for row in (*GATEWAY_METRICS, *QUEUE_METRICS)
]
# Of the queue on PostgreSQL: what makes its tables, and the table of versions.
QUEUE_SCRIPTS: Final = (postgres.VERSIONS, *postgres.MIGRATIONS)
SCHEMAS: Final[Mapping[str, Schema]] = {"registry": REGISTRY_SCHEMA, "triggers": TRIGGERS_SCHEMA}


def annotations_of_scaling() -> Iterable[tuple[str, str, str]]:
    """Kind, name and default of each label and annotation about scaling."""
    return [(option.kind, option.key, option.default) for option in OPTIONS]


def annotations_of_retries() -> Mapping[str, object]:
    """The annotations about queued calls, with what holds where they are absent."""
    names = (ATTEMPTS, CODES, MIN_WAIT, MAX_WAIT)
    return dict(zip(names, astuple(RetryPolicy.parse({})), strict=True))


def annotations_of_cron() -> Mapping[str, object]:
    """The annotations about schedules, with what holds where they are absent."""
    function = DeployedFunction(
        "f", "n", {"topic": "cron-function", SCHEDULE: "0 3 * * *"}, {}, 1, 1
    )
    (entry,) = entries_of([function])[0].values()
    return {ASYNC: entry.asynchronous, MISFIRE: entry.misfire, ZONE: entry.schedule.zone}


def gateway(folder: Path) -> Gateway:
    """A gateway that was made on an empty data folder and not started."""
    settings = GatewaySettings.load({"SLUICE_DATA_DIR": str(folder)})
    return Gateway(settings, embedded(settings))


def registry(folder: Path) -> FastAPI:
    """The registry's application on an empty data folder."""
    return create(read_settings({"SLUICE_DATA_DIR": str(folder)}))


def triggers(folder: Path) -> FastAPI:
    """The triggers' application on an empty data folder."""
    settings = TriggersSettings.load({"SLUICE_DATA_DIR": str(folder)})
    made = Triggers(settings, "admin", "of-the-tests")
    return application(settings, made.cron, made.pipelines, made.metrics)


def registries() -> Mapping[str, CollectorRegistry]:
    """The series of each program that declares them to prometheus_client."""
    kafka = CollectorRegistry()
    KafkaMetrics(kafka)
    return {
        "kafka": kafka,
        "registry": RegistryMetrics().registry,
        "runtime": REGISTRY,
        "triggers": TriggersMetrics().registry,
    }


def replica_families() -> Iterable[Metric]:
    """What a replica exposes of the calls that it got, after one."""
    metrics = Metrics()
    metrics.observe("POST", 200, 0.1)
    return RuntimeCollector(metrics).collect()


def make_environment(data_dir: Path, lock: str, environ: Mapping[str, str]) -> str:
    """Have the environment of `lock` made in a data folder; its key on this interpreter.

    Raises what a build would.
    """

    async def ignore(_: str) -> None:
        """The lines of a build tell nothing here."""

    bundles = Bundles(data_dir)
    try:
        made = Environments(bundles, Uv(environ, bundles.cache_dir))
        asyncio.run(made.prepare(lock, sdists=False, report=ignore))
    finally:
        bundles.close()
    return lock_key(lock)


# A function that declares a batch has these series; the import makes them.
assert callable(batch)
