"""What a replica is made of and with, and everything about its start that blocks."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.bundles import Bundle
from gateway.function import FunctionDeployment
from gateway.providers.embedded import scratch
from gateway.providers.embedded.cgroups import Group, Groups, Limits
from gateway.providers.embedded.logs import Logs
from gateway.providers.embedded.places import Places
from gateway.providers.embedded.sandbox import (
    PRIVATE_CACHE,
    PRIVATE_TMP,
    Machine,
    OwnFolders,
    threads,
)
from gateway.providers.embedded.secrets import SecretFiles
from gateway.providers.embedded.wiring import Wiring
from gateway.providers.embedded.zygotes import Environment, Zygotes
from gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What every replica of a generation is made of. grace: seconds it may drain."""

    deployment: FunctionDeployment
    bundle: Bundle | None
    environment: Environment
    limits: Limits
    grace: float


@dataclass(frozen=True, slots=True)
class Host:
    """What replicas are made with. isolated: whether the kernel gives them namespaces."""

    settings: GatewaySettings
    machine: Machine
    places: Places
    secrets: SecretFiles
    logs: Logs
    zygotes: Zygotes
    groups: Groups | None
    isolated: bool


@dataclass(slots=True)
class Parts:
    """What a replica holds of the machine until it has ended."""

    folder: Path
    path: str
    wiring: Wiring
    group: Group | None


def prepare(host: Host, plan: Plan, replica: str) -> Parts:
    """What a new replica holds; blocks. Raises NotFoundError for a secret that is gone, OSError."""
    function = plan.deployment.id
    secrets = host.secrets.show(function, plan.deployment.secrets)
    cache = host.places.make_cache(function)
    with ExitStack() as undo:
        folder = host.places.make_replica(replica)
        undo.callback(scratch.remove, folder)
        group = host.groups.create(replica, plan.limits) if host.groups and plan.limits else None
        if group is not None:
            undo.callback(group.remove)
        path, listener = host.places.listen()
        with listener:
            undo.callback(Path(path).unlink)
            request = _request(host, plan, replica, OwnFolders(folder, secrets, cache))
            wiring = Wiring(request, listener, group.join_files() if group else ())
        undo.pop_all()
    return Parts(folder, path, wiring, group)


def remove(parts: Parts) -> None:
    """Give back what an ended replica held; blocks."""
    Path(parts.path).unlink(missing_ok=True)
    scratch.remove(parts.folder)
    if parts.group is not None:
        parts.group.remove()


def _request(host: Host, plan: Plan, replica: str, own: OwnFolders) -> dict[str, object]:
    """The document of `runtime.replica.Request`."""
    variables = host.machine.variables(plan.deployment, plan.bundle, replica)
    sandbox = None
    if host.isolated:
        sandbox = host.machine.sandbox(plan.deployment, plan.bundle, own)
        variables["SLUICE_CACHE_DIR"] = PRIVATE_CACHE
    else:
        variables |= {
            "SLUICE_SECRETS_DIR": str(own.secrets),
            "SLUICE_CACHE_DIR": str(own.cache),
            "TMPDIR": str(own.tmp),
            "HOME": str(own.tmp),
        }
    here = PRIVATE_TMP if sandbox else str(own.tmp)
    return {
        "environ": variables,
        "folder": str(plan.bundle.folder) if plan.bundle else here,
        "sandbox": sandbox,
        "threads": threads(plan.deployment.env_vars, plan.limits.cpu),
    }
