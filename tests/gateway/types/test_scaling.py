"""What a developer writes about scaling, and what the gateway makes of it."""

from typing import Any

import pytest

from gateway.types.errors import InvalidRequestError
from gateway.types.scaling import ScalingPolicy
from tests.fakes import deployment


def test_scaling_nothing_written_has_defaults() -> None:
    assert ScalingPolicy.parse(deployment("f")) == ScalingPolicy(1, 20, False, 0, 0, None, False)


def test_scaling_labels_and_annotations_are_read() -> None:
    scaling = ScalingPolicy.parse(
        deployment(
            "f",
            labels={
                "com.openfaas.scale.min": "2",
                "com.openfaas.scale.max": "4",
                "com.openfaas.scale.zero": "true",
                "exec_timeout": "9s",
            },
            annotations={"com.sluice.concurrency": "3", "exec_timeout": "1m30s"},
            env_vars={"max_inflight": "7", "exec_timeout": "2"},
        )
    )
    assert scaling == ScalingPolicy(2, 4, True, 3, 7, 90.0, False, autoscale_max=4)


def test_scaling_exec_timeout_of_the_environment_is_the_runtimes_own() -> None:
    scaling = ScalingPolicy.parse(deployment("f", env_vars={"exec_timeout": "250ms"}))
    assert (scaling.timeout, scaling.own_timeout) == (0.25, True)


def test_scaling_at_minimum_zero_wakes_to_one() -> None:
    scaling = ScalingPolicy.parse(deployment("f", labels={"com.openfaas.scale.min": "0"}))
    assert (scaling.min_replicas, scaling.wake_replicas) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": {"com.openfaas.scale.min": "-1"}}, "com.openfaas.scale.min='-1': expected a"),
        ({"labels": {"com.openfaas.scale.max": "0"}}, "com.openfaas.scale.max='0': .* 1 or more"),
        ({"labels": {"com.openfaas.scale.zero": "often"}}, "zero='often': expected true or false"),
        ({"annotations": {"com.sluice.concurrency": "two"}}, "com.sluice.concurrency='two'"),
        ({"annotations": {"exec_timeout": "0s"}}, "exec_timeout='0s': expected a duration above 0"),
        ({"env_vars": {"max_inflight": "1.5"}}, "max_inflight='1.5': expected a whole number"),
        (
            {"labels": {"com.openfaas.scale.min": "5", "com.openfaas.scale.max": "2"}},
            "com.openfaas.scale.max='2': expected no less than com.openfaas.scale.min, which is 5",
        ),
    ],
)
def test_scaling_bad_value_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        ScalingPolicy.parse(deployment("f", **fields))
