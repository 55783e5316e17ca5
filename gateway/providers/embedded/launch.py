"""What a replica is made of and with, and everything about its start that blocks."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.building.bundles import Bundle
from gateway.providers.embedded import scratch
from gateway.providers.embedded.cgroups import Groups, Limits
from gateway.providers.embedded.logs import Logs
from gateway.providers.embedded.paths import Places
from gateway.providers.embedded.pipes import Wiring
from gateway.providers.embedded.sandbox import (
    PRIVATE_CACHE,
    PRIVATE_TMP,
    Machine,
    OwnFolders,
    threads,
)
from gateway.providers.embedded.secrets import SecretFiles
from gateway.providers.embedded.unspecialized import Blank, Shape, make_blank
from gateway.providers.embedded.zygotes import Environment, Zygotes
from gateway.settings import GatewaySettings
from gateway.types.function import FunctionDeployment


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
    blank: Blank


def shape_of(host: Host, plan: Plan) -> Shape:
    """What the blanks of a plan's replicas must be made with."""
    count = threads(plan.deployment.env_vars, plan.limits.cpu)
    return Shape(host.isolated, count, plan.limits)


def prepare(host: Host, plan: Plan, replica: str, spare: Blank | None) -> Parts:
    """What a new replica holds; blocks. Raises NotFoundError for a secret that is gone, OSError.

    spare: the blank that it is made of, if there is one; the caller keeps it when this fails.
    """
    function = plan.deployment.id
    secrets = host.secrets.show(function, plan.deployment.secrets)
    cache = host.places.make_cache(function)
    with ExitStack() as undo:
        folder = host.places.make_replica(replica)
        undo.callback(scratch.remove, folder)
        blank = _limited(spare, plan) if spare else _blank(host, plan, replica, undo)
        path, listener = host.places.listen()
        with listener:
            undo.callback(Path(path).unlink)
            request = _request(host, plan, replica, OwnFolders(folder, secrets, cache))
            wiring = Wiring(request, listener)
        undo.pop_all()
    return Parts(folder, path, wiring, blank)


def _blank(host: Host, plan: Plan, replica: str, undo: ExitStack) -> Blank:
    blank = make_blank(host.groups, shape_of(host, plan), replica)
    if blank.group is not None:
        undo.callback(blank.group.remove)
    undo.callback(blank.close)
    return blank


def _limited(spare: Blank, plan: Plan) -> Blank:
    if spare.group is not None and spare.shape.limits != plan.limits:
        spare.group.limit(plan.limits)
    return spare


def remove(parts: Parts) -> None:
    """Give back what an ended replica held; blocks."""
    Path(parts.path).unlink(missing_ok=True)
    scratch.remove(parts.folder)
    if parts.blank.group is not None:
        parts.blank.group.remove()


def _request(host: Host, plan: Plan, replica: str, own: OwnFolders) -> dict[str, object]:
    """The document of `sluice.launch.Request`."""
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
    }
