"""Records returned by the stores; their fields are the JSON keys of the HTTP API."""

from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file stored under its sha256. size: bytes."""

    sha256: str
    size: int
    created_at: str


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One version of a dataset.

    sha256, bytes: of the original upload. reading: how it was parsed (delimiter, header).
    files: {parquet|csv|original: {sha256, bytes}}.
    rejects: {count, rows: [{line, column, reason}]}.
    """

    name: str
    version: int
    sha256: str
    rows: int
    bytes: int
    format: str
    reading: JsonObject
    columns: list[JsonObject]
    rejects: JsonObject
    notes: list[str]
    files: dict[str, JsonObject]
    created_at: str
    created_by: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset's name and its newest version."""

    name: str
    latest: int
    rows: int
    bytes: int
    created_at: str


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A preprocessing result. artifacts: {name: sha256}. The function defines the rest."""

    id: str
    dataset: str
    version: int
    target: str
    task: str
    spec: JsonObject
    artifacts: dict[str, str]
    statistics: JsonObject
    created_at: str


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. metrics: the value of each metric at its highest step."""

    id: str
    experiment: str
    status: str
    params: JsonObject
    tags: dict[str, str]
    inputs: JsonObject
    metrics: dict[str, float]
    artifacts: dict[str, str]
    error: str
    created_at: str
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One point of a run's metric series."""

    seq: int
    name: str
    step: int
    value: float
    at: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model version. artifact: the sha256 of its ONNX file."""

    name: str
    version: int
    run: str | None
    artifact: str
    signature: JsonObject
    metrics: JsonObject
    parity: JsonObject
    dataset: str | None
    dataset_version: int | None
    feature_set: str | None
    framework: JsonObject
    tags: dict[str, str]
    created_at: str
    created_by: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model's name, its newest version and its aliases as {alias: version}."""

    name: str
    latest: int
    aliases: dict[str, int]
    created_at: str


@dataclass(frozen=True, slots=True)
class Alias:
    """The version an alias points to. move: id of the move that set it."""

    model: str
    alias: str
    version: int
    moved_at: str
    move: int


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias's history. version: None when the alias was removed."""

    id: int
    model: str
    alias: str
    version: int | None
    previous: int | None
    reason: str
    moved_at: str
    moved_by: str


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """An event. Ids rise in commit order."""

    id: int
    kind: str
    data: JsonObject
    at: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """One logged prediction. latency: seconds."""

    id: int
    model: str
    version: int
    function: str
    at: str
    inputs: Any
    output: Any
    latency: float | None
    request_id: str | None
