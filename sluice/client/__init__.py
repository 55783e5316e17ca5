"""A gateway from Python: `from sluice import Client`. Standard library only; see docs/client.md."""

from sluice.client.calls import QueuedCall
from sluice.client.client import Client
from sluice.client.datasets import Dataset, DatasetSummary, DatasetVersion
from sluice.client.errors import (
    AuthenticationError,
    ClientError,
    ConflictError,
    NotFoundError,
    StatusError,
    UnreachableError,
    WaitTimeoutError,
)
from sluice.client.functions import Function, LogLine, Replica
from sluice.client.models import Model, ModelVersion
from sluice.client.pipelines import Pipeline, PipelineRun, StepRun
from sluice.client.runs import Metric, Run
from sluice.transport import Response

__all__ = [
    "AuthenticationError",
    "Client",
    "ClientError",
    "ConflictError",
    "Dataset",
    "DatasetSummary",
    "DatasetVersion",
    "Function",
    "LogLine",
    "Metric",
    "Model",
    "ModelVersion",
    "NotFoundError",
    "Pipeline",
    "PipelineRun",
    "QueuedCall",
    "Replica",
    "Response",
    "Run",
    "StatusError",
    "StepRun",
    "UnreachableError",
    "WaitTimeoutError",
]
