"""The table of labels and annotations says what the code reads."""

from typing import Any

import pytest

from gateway.api.openfaas.alert import FACTOR_LABEL, factor_of
from gateway.autoscaling import policy
from gateway.autoscaling.policy import Autoscaling
from gateway.scaling_options import OPTIONS, Option
from gateway.types import scaling
from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from tests.fakes import deployment


def read(written: FunctionDeployment) -> tuple[Autoscaling, int]:
    """What the gateway makes of a deployment."""
    return Autoscaling.parse(written), factor_of(written)


def test_every_key_that_is_read_is_in_the_table_once() -> None:
    names = ("_LABEL", "_ANNOTATION")
    read = {
        value
        for module in (policy, scaling)
        for name, value in vars(module).items()
        if name.endswith(names)
    }
    assert sorted(option.key for option in OPTIONS) == sorted(read | {FACTOR_LABEL})


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_key_of_the_table_is_read_where_it_says(option: Option) -> None:
    where = {"label": "labels", "annotation": "annotations"}[option.kind]
    fields: dict[str, Any] = {where: {option.key: "?"}}
    written = deployment("f", **fields)
    with pytest.raises(InvalidRequestError, match=f"^{option.key}='\\?': expected"):
        read(written)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_default_of_the_table_is_one_that_may_be_written(option: Option) -> None:
    where = {"label": "labels", "annotation": "annotations"}[option.kind]
    labels = {policy.TYPE_LABEL: "rps"}
    plain = deployment("f", labels=labels)
    fields: dict[str, Any] = {"labels": labels, where: {**labels, option.key: option.default}}
    written = deployment("f", **fields)
    assert read(written) == read(plain)
