"""Everything that these tests import from the product: a move of modules changes this file only."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from pydantic import BaseModel

from gateway.api.openfaas import wire as gateway_wire
from gateway.app import Gateway
from gateway.building.locking import Demand, Lock
from gateway.metrics import METRICS as GATEWAY_METRICS
from gateway.providers import table
from gateway.providers.embedded.bundle_target import BundleTarget
from gateway.providers.embedded.bundles import Bundles
from gateway.queue import postgres
from gateway.queue.metrics import METRICS as QUEUE_METRICS
from gateway.queue.retries import RetryPolicy
from gateway.settings import GatewaySettings
from pipelines.metrics import PipelineMetrics
from pipelines.settings import PipelineSettings
from registry.api import wire as registry_wire
from registry.app import create
from registry.metrics import RegistryMetrics
from registry.migrations import SCHEMA as REGISTRY_SCHEMA
from registry.settings import RegistrySettings, read_settings
from service.gateway_client import DeployedFunction
from service.schema import Schema
from sluice.cli.settings import CliSettings
from sluice.client.settings import ClientSettings
from sluice.labels.events import CRON_ASYNC, CRON_MISFIRE, CRON_TIMEZONE, KAFKA, SCHEDULE
from sluice.labels.functions import QUEUED_CALLS, SCALING
from sluice.runtime.python.batching import batch
from sluice.runtime.serving.exposition import RuntimeCollector
from sluice.runtime.serving.metrics import Metrics
from sluice.runtime.settings import RuntimeSettings
from triggers.api import application
from triggers.app import Triggers
from triggers.cron.entries import entries_of
from triggers.kafka.metrics import KafkaMetrics
from triggers.kafka.settings import KafkaSettings
from triggers.metrics import TriggersMetrics
from triggers.migrations import SCHEMA as TRIGGERS_SCHEMA
from triggers.settings import TriggersSettings

__all__ = [
    "GATEWAY_ROWS",
    "QUEUE_SCRIPTS",
    "REQUESTS",
    "SCHEMAS",
    "SETTINGS",
    "annotations_of_cron",
    "annotations_of_kafka",
    "annotations_of_retries",
    "annotations_of_scaling",
    "gateway",
    "make_environment",
    "registries",
    "registry",
    "replica_families",
    "triggers",
]

SETTINGS: Final[Sequence[tuple[str, type[Any]]]] = (
    ("gateway", GatewaySettings),
    ("kafka", KafkaSettings),
    ("registry", RegistrySettings),
    ("runtime", RuntimeSettings),
    ("sluice", ClientSettings),
    ("sluice", CliSettings),
    ("triggers", TriggersSettings),
    ("triggers", PipelineSettings),
)
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
    return [(label.kind, label.name, label.default or "") for label in SCALING]


def annotations_of_retries() -> Mapping[str, object]:
    """The annotations about queued calls, with what holds where they are absent."""
    names = [label.name for label in QUEUED_CALLS if label.default is not None]
    return dict(zip(names, astuple(RetryPolicy.parse({})), strict=True))


def annotations_of_cron() -> Mapping[str, object]:
    """The annotations about schedules, with what holds where they are absent."""
    function = DeployedFunction(
        "f", "n", {"topic": "cron-function", SCHEDULE.name: "0 3 * * *"}, {}, 1, 1
    )
    (entry,) = entries_of([function])[0].values()
    return {
        CRON_ASYNC.name: entry.asynchronous,
        CRON_MISFIRE.name: entry.misfire,
        CRON_TIMEZONE.name: entry.schedule.zone,
    }


def annotations_of_kafka() -> Iterable[tuple[str, str, Callable[[str], object]]]:
    """Name, default and parser of each annotation about topics."""
    return [(label.name, label.default or "", label.type.parse) for label in KAFKA]


def gateway(folder: Path) -> Gateway:
    """A gateway that was made on an empty data folder and not started."""
    settings = GatewaySettings.load({"SLUICE_DATA_DIR": str(folder)})
    return Gateway(settings, table.create(settings))


def registry(folder: Path) -> FastAPI:
    """The registry's application on an empty data folder."""
    return create(read_settings({"SLUICE_DATA_DIR": str(folder)}))


def triggers(folder: Path) -> FastAPI:
    """The triggers' application on an empty data folder."""
    settings = TriggersSettings.load({"SLUICE_DATA_DIR": str(folder)})
    made = Triggers(settings, "admin", "of-the-tests")
    return application(settings.pipelines, made.cron, made.pipelines, made.metrics)


def registries() -> Mapping[str, CollectorRegistry]:
    """The series of each program that declares them to prometheus_client."""
    kafka = CollectorRegistry()
    KafkaMetrics(kafka)
    triggers = TriggersMetrics()
    PipelineMetrics(triggers.registry, triggers.failures)
    return {
        "kafka": kafka,
        "registry": RegistryMetrics().registry,
        "runtime": REGISTRY,
        "triggers": triggers.registry,
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
    resolved = Lock(lock, Demand(()))
    try:
        asyncio.run(BundleTarget(bundles, environ).prepare(resolved, ignore))
    finally:
        bundles.close()
    return resolved.key


# A function that declares a batch has these series; the import makes them.
assert callable(batch)
