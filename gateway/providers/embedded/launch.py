"""What a replica is made of, and the part of its start that blocks."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.providers.embedded import scratch
from gateway.providers.embedded.bundles import Bundle
from gateway.providers.embedded.cgroups import Groups
from gateway.providers.embedded.logs import Logs
from gateway.providers.embedded.paths import Paths
from gateway.providers.embedded.pipes import ReplicaPipes
from gateway.providers.embedded.sandbox import Machine, OwnFolders
from gateway.providers.embedded.secrets import SecretFiles
from gateway.providers.embedded.unspecialized import Shape, UnspecializedProcess, make_unspecialized
from gateway.providers.embedded.zygotes import Environment, Zygotes
from gateway.settings import GatewaySettings
from gateway.types.function import FunctionDeployment
from sluice.launch import (
    CACHE_DIR_VARIABLE,
    PRIVATE_CACHE,
    PRIVATE_TMP,
    SECRETS_DIR_VARIABLE,
    ReplicaRequest,
)


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """What every replica of a generation is made of. grace: seconds it may take to drain."""

    deployment: FunctionDeployment
    bundle: Bundle | None
    environment: Environment
    shape: Shape
    grace: float


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What all replicas are made with. isolated: whether they get namespaces."""

    settings: GatewaySettings
    machine: Machine
    paths: Paths
    secrets: SecretFiles
    logs: Logs
    zygotes: Zygotes
    groups: Groups | None
    isolated: bool


@dataclass(slots=True)
class ReplicaHandles:
    """What a replica holds of the machine until it has ended. path: of its socket."""

    folder: Path
    path: str
    pipes: ReplicaPipes
    unspecialized: UnspecializedProcess


def prepare(
    context: LaunchContext,
    spec: ReplicaSpec,
    replica: str,
    warm_process: UnspecializedProcess | None,
) -> ReplicaHandles:
    """Make what a new replica holds; blocks. Raises NotFoundError for a missing secret, OSError.

    warm_process: what becomes the replica, if there is one; the caller keeps it when this fails.
    """
    function = spec.deployment.id
    secrets = context.secrets.show(function, spec.deployment.secrets)
    cache = context.paths.make_cache(function)
    with ExitStack() as undo:
        folder = context.paths.make_replica(replica)
        undo.callback(scratch.remove, folder)
        unspecialized = (
            _limited(warm_process, spec)
            if warm_process
            else _unspecialized(context, spec, replica, undo)
        )
        path, listener = context.paths.listen()
        with listener:
            undo.callback(Path(path).unlink)
            request = _request(context, spec, replica, OwnFolders(folder, secrets, cache))
            pipes = ReplicaPipes(request, listener)
        undo.pop_all()
    return ReplicaHandles(folder, path, pipes, unspecialized)


def _unspecialized(
    context: LaunchContext, spec: ReplicaSpec, replica: str, undo: ExitStack
) -> UnspecializedProcess:
    unspecialized = make_unspecialized(context.groups, spec.shape, replica)
    if unspecialized.group is not None:
        undo.callback(unspecialized.group.remove)
    undo.callback(unspecialized.close)
    return unspecialized


def _limited(warm_process: UnspecializedProcess, spec: ReplicaSpec) -> UnspecializedProcess:
    limits = spec.shape.limits
    if warm_process.group is not None and warm_process.shape.limits != limits:
        warm_process.group.limit(limits)
    return warm_process


def remove(handles: ReplicaHandles) -> None:
    """Remove what an ended replica held; blocks."""
    Path(handles.path).unlink(missing_ok=True)
    scratch.remove(handles.folder)
    if handles.unspecialized.group is not None:
        handles.unspecialized.group.remove()


def _request(
    context: LaunchContext, spec: ReplicaSpec, replica: str, own: OwnFolders
) -> ReplicaRequest:
    variables = context.machine.variables(spec.deployment, spec.bundle, replica)
    sandbox = None
    if context.isolated:
        sandbox = context.machine.sandbox(spec.deployment, spec.bundle, own)
        variables[CACHE_DIR_VARIABLE] = PRIVATE_CACHE
    else:
        variables |= {
            SECRETS_DIR_VARIABLE: str(own.secrets),
            CACHE_DIR_VARIABLE: str(own.cache),
            "TMPDIR": str(own.tmp),
            "HOME": str(own.tmp),
        }
    own_tmp = PRIVATE_TMP if sandbox else str(own.tmp)
    folder = str(spec.bundle.folder) if spec.bundle else own_tmp
    return ReplicaRequest(variables, folder, sandbox)
