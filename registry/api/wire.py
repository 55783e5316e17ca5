"""Models of request bodies. Unknown fields are refused; the error names them."""

from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    StringConstraints,
)

from registry.names import NAME_PATTERN, SHA256_PATTERN

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=250)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Words = Annotated[str, StringConstraints(max_length=10_000)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Step = Annotated[int, Field(ge=-(2**62), le=2**62)]
Moment = Annotated[AwareDatetime, Field(strict=False)]
Object = dict[str, JsonValue]
Tags = Annotated[dict[Key, Words], Field(max_length=200)]


class Body(BaseModel):
    """Base of request bodies: no type coercion, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class UploadQuery(BaseModel):
    """POST /datasets/{name}?...: how to parse the file; missing options are detected.

    max_rejects: share of rows that may be rejected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["csv", "parquet"] | None = None
    delimiter: str | None = None
    header: bool | None = None
    max_rejects: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None


class FeatureSetIn(Body):
    """POST /feature-sets."""

    dataset: Name
    version: Version
    target: Key
    task: Name
    spec: Object
    artifacts: Annotated[dict[Key, Sha256], Field(max_length=100)] = Field(default_factory=dict)
    statistics: Object = Field(default_factory=dict)


class RunInputs(Body):
    """The inputs of a run."""

    dataset: Name | None = None
    version: Version | None = None
    feature_set: Key | None = None


class RunIn(Body):
    """POST /runs."""

    experiment: Name
    params: Annotated[dict[Key, JsonValue], Field(max_length=1000)] = Field(default_factory=dict)
    tags: Tags = Field(default_factory=dict)
    inputs: RunInputs = Field(default_factory=RunInputs)


class MetricIn(Body):
    """One point of a metric series. at: time of measurement; default: now."""

    name: Key
    value: FiniteFloat
    step: Step = 0
    at: Moment | None = None


class MetricsIn(Body):
    """POST /runs/{id}/metrics. A body {name: value} is converted to this list first."""

    metrics: Annotated[list[MetricIn], Field(max_length=1000)]


class ParamsIn(Body):
    """POST /runs/{id}/params."""

    params: Annotated[dict[Key, JsonValue], Field(max_length=1000)]


class RunArtifactIn(Body):
    """POST /runs/{id}/artifacts."""

    name: Key
    sha256: Sha256


class RunEndIn(Body):
    """PATCH /runs/{id}."""

    status: Literal["finished", "failed"]
    error: Words | None = None


class ModelVersionIn(Body):
    """POST /models/{name}/versions."""

    artifact: Sha256
    run: Key | None = None
    signature: Object = Field(default_factory=dict)
    metrics: Object = Field(default_factory=dict)
    parity: Object = Field(default_factory=dict)
    dataset: Name | None = None
    dataset_version: Version | None = None
    feature_set: Key | None = None
    framework: Object = Field(default_factory=dict)
    tags: Tags = Field(default_factory=dict)


class AliasIn(Body):
    """PUT /models/{name}/aliases/{alias}.

    expected: compared when present; null requires that the alias does not exist.
    """

    version: Version
    expected: Version | None = None
    reason: Words = ""


class PredictionIn(Body):
    """One logged prediction. latency: seconds."""

    model: Name
    version: Version
    function: Key
    at: Moment | None = None
    inputs: JsonValue = Field(default=None, validation_alias=AliasChoices("inputs", "features"))
    output: JsonValue = None
    latency: Annotated[FiniteFloat, Field(ge=0)] | None = None
    request_id: Key | None = None


class PredictionsIn(Body):
    """POST /predictions."""

    predictions: Annotated[list[PredictionIn], Field(max_length=1000)]
