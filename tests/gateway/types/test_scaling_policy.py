import pytest

from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from gateway.types.ids import FunctionId
from gateway.types.scaling import ScalingPolicy
from sluice.labels.values import ScaleType


def deployment(**labels: str) -> FunctionDeployment:
    written = {f"com.openfaas.scale.{key.replace('_', '-')}": v for key, v in labels.items()}
    annotations = {}
    if concurrency := written.pop("com.openfaas.scale.concurrency", ""):
        annotations["com.sluice.concurrency"] = concurrency
    return FunctionDeployment(FunctionId("f"), "image", labels=written, annotations=annotations)


def test_function_without_labels_gets_the_standard_alert_rule() -> None:
    found = ScalingPolicy.parse(deployment())
    assert found.scale_type is ScaleType.RPS
    assert (found.target, found.autoscale_max) == (5.0, 5)
    assert (found.stable_window, found.panic_window) == (30, 3)
    assert found.zero_after is None


def test_labels_are_read_as_openfaas_pro_writes_them() -> None:
    found = ScalingPolicy.parse(
        deployment(type="capacity", target="10", target_proportion="0.7", zero="true")
    )
    assert found.scale_type is ScaleType.CAPACITY
    assert found.target == 7.0
    assert found.zero_after == 900.0
    assert (found.stable_window, found.panic_window) == (60, 6)


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
    assert ScalingPolicy.parse(deployment(**labels)).target == pytest.approx(target)


def test_equal_bounds_switch_steering_off() -> None:
    assert ScalingPolicy.parse(deployment(min="2", max="2")).fixed
    assert ScalingPolicy.parse(deployment(min="2", max="02")).fixed
    assert not ScalingPolicy.parse(deployment(min="2", max="3")).fixed
    assert not ScalingPolicy.parse(deployment(min="1")).fixed


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("min", "-1", "a whole number"),
        ("min", "٣", "a whole number"),
        ("max", "0", "1 or more"),
        ("max", "²", "a whole number"),
        ("zero", "often", "true or false"),
        ("zero_duration", "soon", "a duration"),
        ("zero_duration", "0s", "a duration above 0"),
        ("zero_duration", "٣m", "a duration"),
        ("type", "memory", "one of rps, capacity, cpu, queue"),
        ("target", "0", "at least 0.01"),
        ("target", "many", "a number above 0"),
        ("target", "٣", "a number above 0"),
        ("target", "1_0", "a number above 0"),
        ("target", "nan", "a number above 0"),
        ("target", "1e999", "at least 0.01"),
        ("target_proportion", "1.5", "up to 1"),
        ("target_proportion", "٠.٥", "a number above 0"),
        ("down.window", "6m", "at most 5m"),
        ("concurrency", "٣", "a whole number"),
    ],
)
def test_bad_label_is_named_with_its_rule(key: str, value: str, complaint: str) -> None:
    name = {"concurrency": "com.sluice.concurrency"}.get(
        key, f"com.openfaas.scale.{key.replace('_', '-')}"
    )
    with pytest.raises(InvalidRequestError, match=complaint) as refused:
        ScalingPolicy.parse(deployment(**{"target": "1", "zero": "true", key: value}))
    assert str(refused.value).startswith(f"{name}={value!r}: expected ")


@pytest.mark.parametrize("value", ["5s", "2h", "6.5s", "wide"])
def test_bad_window_is_named_with_its_rule(value: str) -> None:
    annotations = {"com.sluice.scale.window": value}
    with pytest.raises(InvalidRequestError, match=f"com.sluice.scale.window='{value}': expected"):
        ScalingPolicy.parse(FunctionDeployment(FunctionId("f"), "image", annotations=annotations))


@pytest.mark.parametrize(
    ("labels", "waiting", "count"),
    [
        ({}, 200, 1),
        ({"min": "3"}, 200, 3),
        ({"concurrency": "2"}, 0, 1),
        ({"concurrency": "2"}, 3, 2),
        ({"concurrency": "2"}, 200, 5),
        ({"concurrency": "2", "type": "capacity"}, 200, 20),
        ({"concurrency": "2", "type": "capacity", "max": "7"}, 200, 7),
        ({"concurrency": "2", "min": "3"}, 4, 3),
        ({"concurrency": "2", "min": "8"}, 200, 8),
    ],
)
def test_function_wakes_to_what_its_queue_asks_for(
    labels: dict[str, str], waiting: int, count: int
) -> None:
    policy = ScalingPolicy.parse_bounds(deployment(**labels))
    assert policy.replicas_from_zero(waiting) == count


def test_slots_are_the_lower_of_both_bounds() -> None:
    found = FunctionDeployment(
        FunctionId("f"),
        "image",
        annotations={"com.sluice.concurrency": "5"},
        env_vars={"max_inflight": "3"},
    )
    assert ScalingPolicy.parse(found).slots == 3
    assert ScalingPolicy.parse(deployment()).slots == 0
