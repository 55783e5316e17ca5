"""The stored form of a function: its generations and the JSON of its deployments."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gateway.types.function import FunctionDeployment, Resources
from gateway.types.ids import FunctionId


@dataclass(frozen=True, slots=True)
class Generation:
    """One deployment of a function, numbered upwards.

    digest: of the bundle that the image stood for when it was deployed; empty runs env_process.
    """

    number: int
    deployment: FunctionDeployment
    digest: str


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """The desired state of a function. serving: the newest generation ever ready, if any."""

    id: FunctionId
    replicas: int
    created_at: datetime
    target: Generation
    serving: Generation | None = None


def encode(deployment: FunctionDeployment) -> str:
    """The deployment as JSON text."""
    document = asdict(deployment)
    return json.dumps(document, sort_keys=True)


def decode(text: str) -> FunctionDeployment:
    """The deployment that `encode` wrote."""
    document: dict[str, Any] = json.loads(text)
    return FunctionDeployment(
        id=FunctionId(**document["id"]),
        image=document["image"],
        env_process=document["env_process"],
        env_vars=document["env_vars"],
        constraints=tuple(document["constraints"]),
        secrets=tuple(document["secrets"]),
        labels=document["labels"],
        annotations=document["annotations"],
        limits=_resources(document["limits"]),
        requests=_resources(document["requests"]),
        read_only_root_filesystem=document["read_only_root_filesystem"],
    )


def _resources(document: Mapping[str, str] | None) -> Resources | None:
    return None if document is None else Resources(**document)
