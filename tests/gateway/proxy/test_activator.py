"""Slots, queue, wake-up and drain, driven by events and a clock in the test's hand."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.proxy.routes import ReplicaConcurrency, Route
from gateway.types.errors import (
    DeadlineExceededError,
    NotFoundError,
    OverloadedError,
    SluiceError,
    UnavailableError,
)
from gateway.types.function import (
    FunctionDeployment,
    FunctionRemoved,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from tests.fakes import deployment

READY, STARTING = ReplicaState.READY, ReplicaState.STARTING
DRAINING, FAILED = ReplicaState.DRAINING, ReplicaState.FAILED
F = FunctionId("f")


class Call:
    """A waiter that records what it is called with."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log = log if log is not None else []
        self.slots: ReplicaConcurrency | None = None
        self.error: SluiceError | None = None
        self.reasons: list[str] = []

    def slot_granted(self, slots: ReplicaConcurrency, _now: float) -> None:
        assert self.slots is None
        self.slots = slots
        self.log.append(self.name)

    def wait_failed(self, error: SluiceError, _now: float) -> None:
        assert self.error is None
        self.error = error

    def failure(self) -> str:
        return "" if self.error is None else str(self.error)

    def replica_ended(self, reason: str) -> None:
        self.reasons.append(reason)


class Bench:
    """An activator with its clock, its wake calls and its retired replicas."""

    def __init__(self, wait_calls: int = 10) -> None:
        self.now = 100.0
        self.wakes: list[FunctionId] = []
        self.retired: list[str] = []
        self.queued: list[FunctionId] = []
        self.metrics = Metrics()
        listeners = Listeners(self.wakes.append, self.queued.append, self.retired.append)
        self.activator = Activator(listeners, self.metrics, 30.0, wait_calls, lambda: self.now)

    def status(
        self,
        *replicas: Replica,
        desired: int | None = None,
        of: FunctionDeployment | None = None,
        reason: str = "",
    ) -> Route:
        """Apply a status and return the route."""
        event = FunctionStatus(
            of or deployment("f"),
            len(replicas) if desired is None else desired,
            replicas,
            datetime.now(UTC),
            reason,
        )
        self.activator.apply(event)
        return self.activator.route(event.id)

    def call(self, route: Route) -> ReplicaConcurrency:
        """A call that must find a slot at once."""
        slots = self.activator.reserve(route, Call(), self.now)
        assert slots is not None
        return slots

    def wait(self, route: Route, name: str = "", log: list[str] | None = None) -> Call:
        """A call that must wait."""
        call = Call(name, log)
        assert self.activator.reserve(route, call, self.now) is None
        return call


def replica(name: str, state: ReplicaState = READY, **fields: object) -> Replica:
    return Replica(name, UnixAddress(f"{name}.sock"), state, **fields)  # type: ignore[arg-type] # restarts and reason


def limited(limit: int, **fields: Any) -> FunctionDeployment:
    return deployment("f", annotations={"com.sluice.concurrency": str(limit)}, **fields)


def names(slots: Iterable[ReplicaConcurrency]) -> list[str]:
    return [each.replica.id for each in slots]


def test_call_with_a_free_slot_has_it_at_once() -> None:
    bench = Bench()
    route = bench.status(replica("a"))
    assert bench.call(route).replica.id == "a"
    assert bench.wakes == []


def test_call_of_an_unknown_function_is_not_found() -> None:
    with pytest.raises(NotFoundError, match=r"error finding function f\.openfaas-fn: not found"):
        Bench().activator.route(F)


def test_calls_go_to_the_least_loaded_replica() -> None:
    bench = Bench()
    route = bench.status(replica("a"), replica("b"), replica("c"))
    slots = [bench.call(route) for _ in range(4)]
    assert sorted(names(slots)) == ["a", "a", "b", "c"]
    bench.activator.release(slots[1], bench.now)
    assert bench.call(route) is slots[1]


def test_calls_under_a_small_limit_pack() -> None:
    bench = Bench()
    route = bench.status(replica("a"), replica("b"), of=limited(2))
    assert names(bench.call(route) for _ in range(3)) == ["a", "a", "b"]


def test_calls_under_a_larger_limit_spread() -> None:
    bench = Bench()
    route = bench.status(replica("a"), replica("b"), of=limited(4))
    assert sorted(names(bench.call(route) for _ in range(4))) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("annotation", "environment", "limit"), [("3", "2", 2), ("2", "3", 2), ("0", "2", 2)]
)
def test_calls_hold_the_lower_of_both_limits(annotation: str, environment: str, limit: int) -> None:
    bench = Bench()
    of = limited(int(annotation), env_vars={"max_inflight": environment})
    route = bench.status(replica("a"), of=of)
    for _ in range(limit):
        bench.call(route)
    bench.wait(route)


def test_update_leaves_a_running_replica_the_limit_it_was_started_with() -> None:
    """A replica with max_inflight 1 refuses a second call with 429, whatever a new one takes."""
    bench = Bench()
    bench.status(replica("old"), of=deployment("f", env_vars={"max_inflight": "1"}))
    wider = deployment("f", env_vars={"max_inflight": "9"})
    route = bench.status(replica("old"), replica("new"), of=wider)
    assert names(bench.call(route) for _ in range(4)) == ["old", "new", "new", "new"]


def test_call_waits_when_all_slots_are_taken_and_is_served_in_order() -> None:
    bench = Bench()
    route = bench.status(replica("a"), of=limited(1))
    slots = bench.call(route)
    served: list[str] = []
    calls = [bench.wait(route, name, served) for name in "xyz"]
    for _ in calls:
        bench.activator.release(slots, bench.now)
    assert served == ["x", "y", "z"]
    assert slots.inflight == 1


def test_call_that_must_wait_is_told_and_counted() -> None:
    bench = Bench()
    route = bench.status(replica("a"), of=limited(1))
    bench.call(route)
    assert (bench.queued, bench.activator.waiting(F)) == ([], 0)
    bench.wait(route)
    bench.wait(route)
    assert (bench.queued, bench.activator.waiting(F)) == ([F, F], 2)
    assert bench.activator.waiting(FunctionId("gone")) == 0


def test_queue_full_call_is_refused_and_counts_as_nothing() -> None:
    bench = Bench(wait_calls=2)
    route = bench.status(replica("a"), of=limited(1))
    bench.call(route)
    bench.wait(route)
    bench.wait(route)
    with pytest.raises(OverloadedError, match=r"f\.openfaas-fn: no slot is free and 2 calls"):
        bench.activator.reserve(route, Call(), bench.now)
    (load,) = bench.activator.stats(bench.now)
    assert (load.inflight, load.waiting, load.arrivals) == (1, 2, 4)


def test_waiting_call_past_its_deadline_fails_and_later_ones_stay() -> None:
    bench = Bench()
    route = bench.status(replica("a"), of=limited(1))
    slots = bench.call(route)
    first = bench.wait(route)
    bench.now += 10
    second = bench.wait(route)
    bench.activator.expire(bench.now + 19.9)
    assert first.failure() == ""
    bench.activator.expire(bench.now + 20)
    assert first.failure() == "f.openfaas-fn: no slot became free within 30 s"
    assert isinstance(first.error, DeadlineExceededError)
    bench.activator.release(slots, bench.now + 21)
    assert first.slots is None
    assert second.slots is slots


def test_deadline_while_a_replica_cannot_start_names_what_is_known() -> None:
    bench = Bench()
    route = bench.status(replica("a", STARTING, reason="image is being unpacked"))
    call = bench.wait(route)
    bench.activator.expire(bench.now + 31)
    assert "no replica was ready within 30 s: image is being unpacked" in str(call.error)


def test_waiting_call_whose_client_left_takes_no_slot() -> None:
    bench = Bench()
    route = bench.status(replica("a"), of=limited(1))
    slots = bench.call(route)
    gone, stays = bench.wait(route), bench.wait(route)
    bench.activator.leave(route, gone, bench.now)
    bench.activator.leave(route, gone, bench.now)
    bench.activator.release(slots, bench.now)
    assert (gone.slots, stays.slots) == (None, slots)
    (load,) = bench.activator.stats(bench.now)
    assert (load.inflight, load.waiting) == (1, 0)


def test_waiter_that_raises_harms_none_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Call):
        def slot_granted(self, slots: ReplicaConcurrency, _now: float) -> None:
            bench.activator.release(slots, bench.now)
            raise KeyError("no such field")

    bench = Bench()
    route = bench.status(replica("a", STARTING), of=limited(1))
    bench.activator.reserve(route, Faulty(), bench.now)
    behind = bench.wait(route)
    bench.status(replica("a"), of=limited(1))
    assert behind.slots is not None
    assert "function=f.openfaas-fn" in caplog.text


def test_calls_at_zero_wake_once_and_are_all_served() -> None:
    bench = Bench(wait_calls=201)
    route = bench.status(desired=0)
    calls = [bench.wait(route) for _ in range(200)]
    assert bench.wakes == [F]
    bench.status(replica("a", STARTING))
    bench.wait(route)
    bench.now += 0.5
    bench.status(replica("a"))
    assert all(call.slots is not None for call in calls)
    assert bench.wakes == [F]
    cold = bench.metrics.function(route.name).cold_starts
    assert (cold.count, cold.sum) == (1, 0.5)


def test_starting_replica_is_waited_for_without_a_wake_call() -> None:
    bench = Bench()
    route = bench.status(replica("a", STARTING))
    bench.wait(route)
    assert bench.wakes == []


def test_function_scaled_to_zero_under_waiting_calls_is_woken_again() -> None:
    bench = Bench()
    route = bench.status(replica("a", STARTING), desired=1)
    bench.wait(route)
    bench.status(desired=0)
    assert bench.wakes == [F]


def test_wake_call_that_failed_answers_who_waits_and_is_tried_again() -> None:
    bench = Bench()
    route = bench.status(desired=0)
    call = bench.wait(route)
    bench.activator.wake_failed(F, UnavailableError("no memory left"))
    assert isinstance(call.error, UnavailableError)
    assert "f.openfaas-fn: cannot be scaled from zero: no memory left" in str(call.error)
    bench.wait(route)
    assert bench.wakes == [F, F]


def test_wake_call_that_led_to_nothing_is_repeated_after_the_wait() -> None:
    bench = Bench()
    route = bench.status(desired=0)
    bench.wait(route)
    bench.now += 31
    bench.wait(route)
    assert bench.wakes == [F, F]


def test_function_whose_replicas_all_fail_to_start_answers_with_the_reason() -> None:
    bench = Bench()
    route = bench.status(replica("a", STARTING), replica("b", STARTING))
    call = bench.wait(route)
    bench.status(replica("a", FAILED, reason="ImportError: numpi"), replica("b", STARTING))
    assert call.failure() == ""
    bench.status(replica("a", FAILED, reason="ImportError: numpi"), replica("b", FAILED))
    assert call.failure() == "f.openfaas-fn: no replica starts: ImportError: numpi"
    with pytest.raises(UnavailableError, match="numpi"):
        bench.activator.reserve(route, Call(), bench.now)


def test_replica_that_was_ready_and_failed_is_waited_for() -> None:
    bench = Bench()
    route = bench.status(replica("a"))
    bench.status(replica("a", FAILED, reason="over its memory limit"))
    call = bench.wait(route)
    bench.status(replica("b", STARTING, restarts=1))
    bench.status(replica("b"))
    assert call.slots is not None


def test_removed_function_ends_its_waiters() -> None:
    bench = Bench()
    route = bench.status(desired=0)
    call = bench.wait(route)
    generation = bench.activator.generation
    bench.activator.apply(FunctionRemoved(F))
    assert isinstance(call.error, NotFoundError)
    assert bench.activator.generation > generation
    with pytest.raises(NotFoundError):
        bench.activator.reserve(route, Call(), bench.now)
    with pytest.raises(NotFoundError):
        bench.activator.route(F)


def test_draining_replica_gets_no_further_call_and_keeps_its_own() -> None:
    bench = Bench()
    route = bench.status(replica("a"), replica("b"))
    held = bench.call(route)
    assert held.replica.id == "a"
    bench.status(replica("a", DRAINING), replica("b"), desired=1)
    assert bench.retired == ["a"]
    assert names(bench.call(route) for _ in range(2)) == ["b", "b"]
    bench.activator.release(held, bench.now)
    (load,) = bench.activator.stats(bench.now)
    assert (load.ready, load.inflight) == (1, 2)
    bench.status(replica("b"))
    assert bench.retired == ["a"]


def test_call_that_was_not_served_goes_before_those_who_wait() -> None:
    bench = Bench()
    route = bench.status(replica("a"), of=limited(1))
    slots = bench.call(route)
    served: list[str] = []
    bench.wait(route, "later", served)
    again = Call("again", served)
    assert bench.activator.reserve_again(route, again, bench.now, bench.now + 5) is None
    bench.activator.release(slots, bench.now)
    bench.activator.release(slots, bench.now)
    assert served == ["again", "later"]
    assert route.arrivals == 2


def test_replica_that_fails_tells_those_who_ask_why() -> None:
    bench = Bench()
    route = bench.status(replica("a"))
    slots, exit_listener = bench.call(route), Call()
    assert bench.activator.await_exit(slots, exit_listener) is None
    bench.status(replica("a", FAILED, reason="memory: 130 MiB of 128 MiB"))
    assert exit_listener.reasons == ["memory: 130 MiB of 128 MiB"]
    assert bench.activator.await_exit(slots, Call()) == "memory: 130 MiB of 128 MiB"


def test_replica_replaced_without_a_word_leaves_its_reason_to_its_heir() -> None:
    bench = Bench()
    route = bench.status(replica("a"))
    slots, exit_listener = bench.call(route), Call()
    bench.activator.await_exit(slots, exit_listener)
    bench.status(replica("b", STARTING, restarts=1, reason="exit status 3"))
    assert exit_listener.reasons == ["exit status 3"]


def test_draining_replica_that_fails_tells_its_reason_too() -> None:
    bench = Bench()
    route = bench.status(replica("a"))
    slots, exit_listener = bench.call(route), Call()
    bench.status(replica("a", DRAINING), desired=0)
    assert bench.activator.await_exit(slots, exit_listener) is None
    bench.status(replica("a", FAILED, reason="killed after the grace period"), desired=0)
    assert exit_listener.reasons == ["killed after the grace period"]


def test_stats_integrate_calls_on_replicas_and_calls_waiting() -> None:
    bench = Bench()
    route = bench.status(replica("a"), of=limited(1))
    slots = bench.call(route)
    bench.now += 2
    bench.wait(route)
    bench.now += 3
    (load,) = bench.activator.stats(bench.now)
    assert load.demand_seconds == 1 * 2 + 2 * 3
    bench.activator.release(slots, bench.now)
    bench.now += 4
    bench.activator.release(slots, bench.now)
    bench.now += 100
    (load,) = bench.activator.stats(bench.now)
    assert load.demand_seconds == 2 + 6 + 4
    assert (load.inflight, load.waiting, load.arrivals) == (0, 0, 2)


def test_bad_scaling_of_a_deployment_from_elsewhere_is_logged_and_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    of = deployment("f", annotations={"com.sluice.concurrency": "many"})
    bench.call(bench.status(replica("a"), of=of))
    assert "com.sluice.concurrency='many'" in caplog.text
