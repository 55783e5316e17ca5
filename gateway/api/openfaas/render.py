"""OpenFaaS's response documents: our types as the JSON that its clients read."""

from datetime import UTC, datetime
from typing import Any

from gateway.types.function import FunctionDeployment, FunctionStatus, LogLine, Namespace, Resources
from sluice.labels.functions import FUNCTION_NAME, REASON


def listed(status: FunctionStatus, invocations: float) -> dict[str, Any]:
    """An item of the function list."""
    document = _function(status.deployment, dict(status.deployment.annotations))
    document |= _present(
        invocationCount=float(invocations),
        replicas=status.replicas,
        availableReplicas=status.available_replicas,
    )
    document["createdAt"] = timestamp(status.created_at)
    return document


def described(status: FunctionStatus, invocations: float) -> dict[str, Any]:
    """One function in full: as in the list, with its reason and the state of each replica."""
    document = listed(status, invocations)
    reason = status.reason or next((r.reason for r in status.running if r.reason), "")
    if reason:
        document["annotations"] = {**document.get("annotations", {}), REASON.name: reason}
        document["reason"] = reason
    if status.running:
        document["replicaStates"] = [
            {"id": r.id, "state": r.state.value, "restarts": r.restarts, "reason": r.reason}
            for r in status.running
        ]
    if status.usage is not None:
        document["usage"] = {
            "cpu": float(status.usage.cpu_millicores),
            "totalMemoryBytes": float(status.usage.memory_bytes),
        }
    return document


def namespace_document(namespace: Namespace) -> dict[str, Any]:
    """FunctionNamespace."""
    return {
        "name": namespace.name,
        **_present(annotations=dict(namespace.annotations), labels=dict(namespace.labels)),
    }


def log_document(line: LogLine) -> dict[str, Any]:
    """A line of the log stream."""
    return {
        "name": line.id.name,
        "namespace": line.id.namespace,
        "instance": line.instance,
        "timestamp": timestamp(line.timestamp),
        "text": line.text,
    }


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _function(deployment: FunctionDeployment, annotations: dict[str, str]) -> dict[str, Any]:
    """Keys of a deployment that are set: an empty object would differ from an absent one."""
    return {
        "name": deployment.id.name,
        "image": deployment.image,
        "namespace": deployment.id.namespace,
        **_present(
            envProcess=deployment.env_process,
            envVars=dict(deployment.env_vars),
            constraints=list(deployment.constraints),
            secrets=list(deployment.secrets),
            labels={**deployment.labels, FUNCTION_NAME.name: deployment.id.name},
            annotations=annotations,
            limits=_resources(deployment.limits),
            requests=_resources(deployment.requests),
            readOnlyRootFilesystem=deployment.read_only_root_filesystem,
        ),
    }


def _resources(resources: Resources | None) -> dict[str, str]:
    return _present(memory=resources.memory, cpu=resources.cpu) if resources else {}


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
