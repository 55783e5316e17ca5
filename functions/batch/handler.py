"""Predictions of a whole dataset version, in steps: which chunks, each of them, all as one file.

POST {"action": "chunk" | "rows" | "predict" | "collect", ...}; each action has its own fields, see
batch/request.py. Predictions are Parquet artifacts of the registry: column `row` counts the
dataset's rows from 0, `prediction` is the class or value, `probability_CLASS` a share in [0, 1].
The data and its licence are the dataset's own.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sluice import Context, Event
from sluice.ml.errors import InvalidInputError
from sluice.ml.registry import Keys, Registry
from sluice.ml.responses import Reply, respond
from sluice.ml.runtime_config import runtime_config

from .predicting import Predictor
from .reading import Datasets
from .request import Chunked, Collected, Predicted, Wanted
from .storing import join_parts, write_part

RUNTIME_CONFIG: Final = runtime_config()
REGISTRY: Final = Registry(RUNTIME_CONFIG)
DATASETS: Final = Datasets(REGISTRY, RUNTIME_CONFIG.cache / "datasets")
PREDICTOR: Final = Predictor(RUNTIME_CONFIG)


def handle(event: Event, context: Context) -> Reply:
    """200; 400 naming the field; 404 for an unknown dataset or model; 503."""
    return respond(event, act)


def act(body: dict[str, Any], keys: Keys) -> Mapping[str, Any]:
    """What the action returns."""
    fields = dict(body)
    action = fields.pop("action", None)
    work = ACTIONS.get(action) if isinstance(action, str) else None
    if work is None:
        expected = ", ".join(ACTIONS)
        raise InvalidInputError(f"field 'action': expected one of {expected}, got {action!r}")
    return work(fields)


def chunk(fields: dict[str, Any]) -> Mapping[str, Any]:
    """The versions that dataset and model have now, and the chunks of the rows."""
    asked = Chunked.read(fields)
    dataset = REGISTRY.dataset(asked.dataset, asked.version)
    model = _model(asked.model, "")
    count = int(dataset["rows"])
    return {
        "dataset": asked.dataset,
        "version": dataset["version"],
        "model": asked.model,
        "model_version": str(model["version"]),
        "rows": count,
        "chunks": [
            {"offset": offset, "rows": min(asked.rows, count - offset)}
            for offset in range(0, count, asked.rows)
        ],
    }


def rows(fields: dict[str, Any]) -> Mapping[str, Any]:
    """The first rows as the model takes them."""
    asked = Wanted.read(fields)
    signature = _model(asked.model, asked.model_version)["signature"]
    table = DATASETS.rows(asked.dataset, asked.version, signature["columns"], 0, asked.limit)
    names = [column["name"] for column in signature["columns"]]
    return {"rows": [dict(zip(names, row, strict=True)) for row in table]}


def predict(fields: dict[str, Any]) -> Mapping[str, Any]:
    """The artifact that holds the predictions of one chunk."""
    asked = Predicted.read(fields)
    model = _model(asked.model, asked.model_version)
    signature = model["signature"]
    table = DATASETS.rows(
        asked.dataset, asked.version, signature["columns"], asked.offset, asked.rows
    )
    response = PREDICTOR.predict(f"{asked.model}:{model['version']}", table)
    content = write_part(signature, asked.offset, response)
    return {
        "artifact": REGISTRY.put_artifact(content),
        "offset": asked.offset,
        "rows": len(table),
    }


def collect(fields: dict[str, Any]) -> Mapping[str, Any]:
    """The one artifact that holds the predictions of all chunks, in the order of the rows."""
    asked = Collected.read(fields)
    parts = sorted(asked.parts, key=lambda part: part.offset)
    content = join_parts([REGISTRY.artifact(part.artifact) for part in parts])
    artifact = REGISTRY.put_artifact(content)
    return {
        "dataset": asked.dataset,
        "version": asked.version,
        "model": asked.model,
        "rows": sum(part.rows for part in parts),
        "bytes": len(content),
        "artifact": artifact,
        "download": f"/registry/artifacts/{artifact}",
    }


ACTIONS: Final[Mapping[str, Callable[[dict[str, Any]], Mapping[str, Any]]]] = {
    "chunk": chunk,
    "rows": rows,
    "predict": predict,
    "collect": collect,
}


def _model(name: str, version: str) -> dict[str, Any]:
    """A model version; without one the champion."""
    if version:
        return REGISTRY.model_version(name, version)
    found = REGISTRY.alias(name, "champion").body
    assert found is not None  # noqa: S101 - only a 304 has no body
    return found
