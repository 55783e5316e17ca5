"""Decides whether a deployment can run here, and what its replicas are made of."""

from contextlib import suppress
from typing import Final

from gateway.providers.embedded.bundles import Bundle, Bundles
from gateway.providers.embedded.cgroups import Limits
from gateway.providers.embedded.launch import LaunchContext, ReplicaSpec
from gateway.providers.embedded.names import check_label, cpu_cores, memory_bytes
from gateway.providers.embedded.records import Generation
from gateway.providers.embedded.sandbox import check_variables, find_command, threads
from gateway.providers.embedded.unspecialized import Shape
from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from gateway.types.scaling import ScalingPolicy
from sluice.labels.functions import SCALE_MIN
from sluice.settings import parse_duration

HOW_TO_BUILD: Final = (
    "build it with `faas-cli up --remote-builder URL --payload-secret "
    ".sluice/secrets/payload-secret` or `sluice up`"
)
DRAIN_MARGIN: Final = 5.0
DEFAULT_DRAIN: Final = 30.0  # the runtime's write_timeout
DRAIN_KNOBS: Final = ("write_timeout", "exec_timeout")


class Planner:
    """Checks deployments and makes the specs of their replicas."""

    def __init__(self, bundles: Bundles, context: LaunchContext) -> None:
        self._bundles, self._machine = bundles, context.machine
        self._secrets, self._groups = context.secrets, context.groups
        self._isolated = context.isolated

    def check(self, deployment: FunctionDeployment) -> tuple[str, int]:
        """The bundle's digest, empty for env_process, and the first count; blocks.

        Raises InvalidRequestError naming what cannot be used and what was expected.
        """
        check_label("function", deployment.id.name)
        check_label("namespace", deployment.id.namespace)
        check_variables(deployment.env_vars)
        for what, resources in (("limits", deployment.limits), ("requests", deployment.requests)):
            memory_bytes(resources, what)
            cpu_cores(resources, what)
        check_requests(deployment)
        missing = self._secrets.missing(deployment.id.namespace, deployment.secrets)
        if missing:
            raise InvalidRequestError(
                f"secrets: {', '.join(missing)} not found in namespace {deployment.id.namespace}"
            )
        least = ScalingPolicy.parse_bounds(deployment).min_replicas
        most = self._machine.settings.replica_limit
        if least > most:
            raise InvalidRequestError(f"{SCALE_MIN.name}: expected at most {most}")
        return self._digest(deployment), least

    def spec(self, generation: Generation) -> ReplicaSpec:
        """What replicas of the generation are made of. Raises InvalidRequestError."""
        deployment = generation.deployment
        bundle = self._bundle(generation)
        cores = cpu_cores(deployment.limits, "limits")
        limits = Limits(memory_bytes(deployment.limits, "limits"), cores)
        shape = Shape(self._isolated, threads(deployment.env_vars, cores), limits)
        environment = self._machine.environment(deployment, bundle)
        return ReplicaSpec(deployment, bundle, environment, shape, _grace(deployment))

    def limits_not_enforced(self, deployment: FunctionDeployment) -> str:
        """Which of the deployment's limits nothing here enforces; empty when all are."""
        asked = cpu_cores(deployment.limits, "limits") is not None
        enforced = self._groups is not None and self._groups.limits_cpu
        return "limits.cpu" if asked and not enforced else ""

    def _digest(self, deployment: FunctionDeployment) -> str:
        bundle = self._bundles.resolve(deployment.image)
        if bundle is not None:
            return bundle.digest
        if not deployment.env_process.strip():
            raise InvalidRequestError(
                f"image {deployment.image[:200]!r} was not built here and there is no envProcess: "
                f"{HOW_TO_BUILD}"
            )
        if find_command(deployment.env_process, self._machine.environ) is None:
            raise InvalidRequestError(
                f"envProcess {deployment.env_process[:200]!r}: no such command on this machine, "
                f"and image {deployment.image[:200]!r} was not built here: {HOW_TO_BUILD}"
            )
        return ""

    def _bundle(self, generation: Generation) -> Bundle | None:
        if not generation.digest:
            return None
        bundle = self._bundles.get(generation.digest)
        if bundle is None:
            raise InvalidRequestError(
                f"image {generation.deployment.image}: its build {generation.digest[:19]} is gone, "
                f"{HOW_TO_BUILD}"
            )
        return bundle


def check_requests(deployment: FunctionDeployment) -> None:
    """Raise InvalidRequestError when more is requested than the limit allows."""
    requests, limits = deployment.requests, deployment.limits
    for what, amount in (("memory", memory_bytes), ("cpu", cpu_cores)):
        asked, most = amount(requests, "requests"), amount(limits, "limits")
        if asked is not None and most is not None and asked > most:
            wanted, allowed = getattr(requests, what), getattr(limits, what)
            raise InvalidRequestError(
                f"requests.{what}: expected at most limits.{what}, which is {allowed[:40]!r}, "
                f"got {wanted[:40]!r}"
            )


def _grace(deployment: FunctionDeployment) -> float:
    """Seconds after SIGTERM in which the runtime ends by itself, with a margin."""
    drain, announced = DEFAULT_DRAIN, 0.0
    for knob in DRAIN_KNOBS:
        # What does not parse is reported by the runtime, which refuses to start.
        with suppress(ValueError):
            drain = max(drain, parse_duration(deployment.env_vars.get(knob) or "0"))
    with suppress(ValueError):
        announced = parse_duration(deployment.env_vars.get("healthcheck_interval") or "0")
    return drain + announced + DRAIN_MARGIN
