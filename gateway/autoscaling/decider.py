"""Decides the replica count of one function that is above zero. No I/O."""

import math

from gateway.autoscaling.decision import Decision, decide, scale_for_backlog, scale_for_load
from gateway.autoscaling.window import Window
from gateway.types.function import FunctionDeployment
from gateway.types.scaling import FunctionLoad, ScalingPolicy
from sluice.labels.values import ScaleType


class Decider:
    """Samples of a function's load, and the count that they call for.

    A manual override, a count set by hand or by an alert, stands until the count that the load
    calls for changes or exceeds it.
    """

    __slots__ = (
        "_arrivals",
        "_at",
        "_count",
        "_demand_seconds",
        "_last_active",
        "_overridden",
        "_override_base",
        "_past",
        "_window",
        "deployment",
        "policy",
    )

    def __init__(
        self,
        deployment: FunctionDeployment,
        load: FunctionLoad,
        now: float,
        manual_override: bool = False,
    ) -> None:
        """manual_override: whether the count in `load` was set by hand or by an alert."""
        self.deployment = deployment
        self.policy = ScalingPolicy.parse(deployment)
        self._window = Window(self.policy.stable_window)
        # Starting replicas count as running: after a restart of the gateway all of them start.
        self._past = Decision.found(load.desired, now)
        self._demand_seconds, self._arrivals, self._at = load.demand_seconds, load.arrivals, now
        self._last_active = now
        self._count = load.desired
        self._overridden = manual_override
        self._override_base: int | None = None

    def redeploy(self, deployment: FunctionDeployment) -> None:
        """Follow a changed deployment; the samples of the load stay."""
        self.deployment = deployment
        self.policy = ScalingPolicy.parse(deployment)
        if self._window.seconds != self.policy.stable_window:
            self._window = Window(self.policy.stable_window)

    def follow(self, count: int, now: float) -> None:
        """Take the desired count of the provider; one not set by us is a manual override."""
        if count == self._count:
            return
        self._count = count
        self._overridden, self._override_base = True, None
        self._last_active = now

    def steer(self, count: int) -> int:
        """Record a count as our own before it is set; returns the one before."""
        before, self._count = self._count, count
        return before

    def sample(self, load: FunctionLoad, now: float, external: float | None) -> None:
        """Add what happened since the last sample; `external`: a value measured now."""
        seconds = now - self._at
        if seconds <= 0:
            return
        if load.inflight or load.waiting or load.arrivals != self._arrivals or external:
            self._last_active = now
        if external is not None:
            self._window.record(now, external)
        elif self.policy.scale_type is ScaleType.CAPACITY:
            self._window.record(now, (load.demand_seconds - self._demand_seconds) / seconds)
        elif self.policy.scale_type is ScaleType.RPS:
            self._window.record(now, (load.arrivals - self._arrivals) / seconds)
        self._demand_seconds, self._arrivals, self._at = load.demand_seconds, load.arrivals, now

    def desired_scale(self, ready: int, now: float) -> int | None:
        """The count to set now, None to leave it as it is."""
        zero_after = self.policy.zero_after
        if zero_after is not None and now - self._last_active >= zero_after:
            return 0 if self._count else None
        policy = self.policy
        stable = self._window.mean(now)
        panic = self._window.mean(now, self.policy.panic_window)
        if self.policy.fixed or stable is None or panic is None:
            return None
        self._past = decide(policy, stable, panic, ready, now, self._past)
        if self._manual_override(scale_for_load(policy, stable, panic)):
            return None
        wanted = max(1, self._past.replicas)
        return wanted if wanted != self._count else None

    def for_backlog(self, load: FunctionLoad, now: float) -> int | None:
        """The count to set at once for calls that wait for a slot, None when none is missing.

        Replicas that start are counted with the slots they will have, so that a queue starts
        none twice.
        """
        slots = self.policy.slots
        if slots == 0 or self.policy.fixed or self._count == 0:
            return None
        coming = max(0, self._count - load.ready) * slots
        if load.waiting <= coming:
            return None
        wanted = self._count + math.ceil((load.waiting - coming) / slots)
        made = scale_for_backlog(self.policy, wanted, now, self._past)
        if made.replicas <= self._count:
            return None
        self._past, self._overridden = made, False
        return made.replicas

    def _manual_override(self, wanted: int) -> bool:
        """Whether a count that was set by hand or by an alert stands.

        `wanted` is the count for the load alone: a decision also changes as replicas get ready.
        """
        if not self._overridden:
            return False
        if self._override_base is None:
            self._override_base = wanted
        self._overridden = wanted == self._override_base and wanted <= self._count
        return self._overridden
