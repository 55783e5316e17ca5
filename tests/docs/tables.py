"""Tables of settings and metrics, written into the documentation between markers.

`make docs` writes them; a test fails when a page differs from the code.
"""

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from bench.page import machine_table, result_tables
from gateway.metrics import METRICS
from gateway.queue.metrics import METRICS as QUEUE_METRICS
from gateway.settings import GatewaySettings
from pipelines.metrics import PipelineMetrics
from pipelines.settings import PipelineSettings
from registry.metrics import RegistryMetrics
from registry.settings import RegistrySettings
from sluice.cli.settings import CliSettings
from sluice.client.settings import ClientSettings
from sluice.labels import Label
from sluice.labels.events import CRON, EVENT_TOPIC, KAFKA, SCHEDULE
from sluice.labels.functions import CALLS, QUEUED_CALLS, SCALING
from sluice.runtime.serving.exposition import RuntimeCollector
from sluice.runtime.serving.metrics import Metrics
from sluice.runtime.settings import RuntimeSettings
from sluice.settings import rows
from testbed.platform import ROOT
from triggers.kafka.metrics import KafkaMetrics
from triggers.kafka.settings import KafkaSettings
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

DOCS: Final = ROOT / "docs"
HELP: Final = re.compile(r"^# HELP (\S+) (.*)$", re.MULTILINE)
TYPE: Final = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
SERIES: Final = (*METRICS, *QUEUE_METRICS)
OWN: Final = ("sluice_", "http_", "function_")


def settings_table(*tables: type[Any]) -> str:
    """A Markdown table of the settings of `tables`."""
    return _markdown(
        ("variable", "default", "meaning"),
        (
            (f"`{row.variable}`", f"`{row.default}`" if row.default else "", row.meaning)
            for table in tables
            for row in rows(table)
        ),
    )


def labels_table(*labels: Label[Any]) -> str:
    """A Markdown table of labels and annotations."""
    return _markdown(
        ("name", "kind", "values", "default", "meaning"),
        (
            (
                f"`{label.name}`",
                label.kind,
                label.type.values,
                f"`{label.default}`" if label.default else "",
                label.meaning,
            )
            for label in labels
        ),
    )


def gateway_metrics() -> str:
    """A Markdown table of the gateway's series."""
    return _markdown(
        ("name", "type", "labels", "meaning"),
        ((f"`{row.name}`", row.type, ", ".join(row.labels), row.help) for row in SERIES),
    )


def runtime_metrics() -> str:
    """A Markdown table of a replica's own series, those of batching among them."""
    importlib.import_module("sluice.runtime.python.batching")
    metrics = Metrics()
    metrics.observe("POST", 200, 0.1)
    families = RuntimeCollector(metrics).collect()
    return _markdown(
        ("name", "type", "meaning"),
        (
            (f"`{_exposed(family)}`", family.type, family.documentation)
            for family in families
            if family.name.startswith(OWN)
        ),
    )


def registry_metrics() -> str:
    """A Markdown table of the registry's series."""
    return exposed_metrics(RegistryMetrics().render().decode())


def triggers_metrics() -> str:
    """A Markdown table of the triggers' series."""
    metrics = TriggersMetrics()
    PipelineMetrics(metrics.registry, metrics.failures)
    return exposed_metrics(metrics.render().decode())


def kafka_metrics() -> str:
    """A Markdown table of the Kafka source's series."""
    registry = CollectorRegistry()
    KafkaMetrics(registry)
    return exposed_metrics(generate_latest(registry).decode())


def exposed_metrics(text: str) -> str:
    """A Markdown table of our own series in a text exposition."""
    types = dict(TYPE.findall(text))
    return _markdown(
        ("name", "type", "meaning"),
        (
            (f"`{name}`", types[name], meaning)
            for name, meaning in HELP.findall(text)
            if name.startswith(OWN) and not name.endswith("_created")
        ),
    )


TABLES: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "kafka.md": {
        "annotations": lambda: labels_table(*KAFKA),
        "settings": lambda: settings_table(KafkaSettings),
        "metrics": kafka_metrics,
    },
    "scaling.md": {"labels": lambda: labels_table(*SCALING, *CALLS)},
    "async.md": {"annotations": lambda: labels_table(*QUEUED_CALLS)},
    "cron.md": {"annotations": lambda: labels_table(EVENT_TOPIC, SCHEDULE, *CRON)},
    "settings.md": {
        "gateway": lambda: settings_table(GatewaySettings),
        "runtime": lambda: settings_table(RuntimeSettings),
        "registry": lambda: settings_table(RegistrySettings),
        "triggers": lambda: settings_table(TriggersSettings),
        "pipelines": lambda: settings_table(PipelineSettings),
        "sluice": lambda: settings_table(ClientSettings, CliSettings),
    },
    "metrics.md": {
        "gateway": gateway_metrics,
        "runtime": runtime_metrics,
        "registry": registry_metrics,
        "triggers": triggers_metrics,
    },
    "performance.md": {"machine": machine_table, "results": result_tables},
}


def rendered(page: str) -> str:
    """The page with its tables as the code has them now."""
    text = (DOCS / page).read_text()
    for name, render in TABLES[page].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{page}: no markers for {name}")
        text = before + begin + render() + end + after
    return text


def _exposed(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    table = [head, ("---",) * len(head), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in table)


if __name__ == "__main__":
    for name in TABLES:
        (DOCS / name).write_text(rendered(name))
