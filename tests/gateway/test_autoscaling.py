import pytest

from gateway.autoscaling import Autoscaling, Signal
from gateway.errors import InvalidRequestError
from gateway.function import FunctionDeployment, FunctionId


def deployment(**labels: str) -> FunctionDeployment:
    written = {f"com.openfaas.scale.{key.replace('_', '-')}": v for key, v in labels.items()}
    annotations = {}
    if concurrency := written.pop("com.openfaas.scale.concurrency", ""):
        annotations["com.sluice.concurrency"] = concurrency
    return FunctionDeployment(FunctionId("f"), "image", labels=written, annotations=annotations)


def test_function_without_labels_gets_the_standard_alert_rule() -> None:
    found = Autoscaling.parse(deployment())
    assert found.signal is Signal.RPS
    assert (found.policy.target, found.policy.max_replicas) == (5.0, 5)
    assert (found.window, found.panic_window) == (30, 3)
    assert found.zero_after is None


def test_labels_are_read_as_openfaas_pro_writes_them() -> None:
    found = Autoscaling.parse(
        deployment(type="capacity", target="10", target_proportion="0.7", zero="true")
    )
    assert found.signal is Signal.CAPACITY
    assert found.policy.target == 7.0
    assert found.zero_after == 900.0
    assert (found.window, found.panic_window) == (60, 6)


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        ({"type": "capacity"}, 45.0),
        ({"type": "capacity", "concurrency": "2"}, 1.8),
        ({"type": "capacity", "concurrency": "2", "target": "10"}, 1.8),
        ({"type": "capacity", "concurrency": "20", "target": "10"}, 9.0),
        ({"target": "100", "target_proportion": "1"}, 100.0),
    ],
)
def test_target_never_exceeds_what_a_replica_may_hold(
    labels: dict[str, str], target: float
) -> None:
    assert Autoscaling.parse(deployment(**labels)).policy.target == pytest.approx(target)


def test_equal_bounds_switch_steering_off() -> None:
    assert Autoscaling.parse(deployment(min="2", max="2")).fixed
    assert not Autoscaling.parse(deployment(min="2", max="3")).fixed


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ({"type": "memory"}, "one of rps, capacity, cpu, queue"),
        ({"target": "0"}, "at least 0.01"),
        ({"target": "many"}, "a number above 0"),
        ({"target": "1", "target_proportion": "1.5"}, "up to 1"),
        ({"zero": "true", "zero_duration": "soon"}, "a duration"),
        ({"down.window": "6m"}, "at most 5m"),
    ],
)
def test_bad_label_is_named_with_its_rule(labels: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidRequestError, match=complaint):
        Autoscaling.parse(deployment(**labels))
