"""What the stores give out: frozen records whose fields are the JSON keys of the HTTP API."""

from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes kept under their sha256."""

    sha256: str
    size: int
    created_at: str


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One content of a dataset.

    sha256, bytes: of the upload as it came. reading: how it was read (delimiter, header).
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
    """A preprocessing result: artifacts is {name: sha256}, the rest is the function's own."""

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
    """One training run. metrics: the newest value of each."""

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
    """A registered model version: its ONNX file by sha256 and all that is known of it."""

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
    """Where an alias points. move: number of the move that put it there."""

    model: str
    alias: str
    version: int
    moved_at: str
    move: int


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One line of an alias's history; version None: it was removed."""

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
    """Something that happened; ids rise in the order of the commits."""

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
