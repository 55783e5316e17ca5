"""One table for each rule, through every place where a value of that kind comes in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.api.openfaas.wire import FunctionWire, NamespaceWire, SecretNameWire
from gateway.providers.embedded.names import check_label, check_secret, cpu_cores, memory_bytes
from gateway.queue.call import CallState
from gateway.queue.callback_targets import CallbackTargets
from gateway.settings import GatewaySettings
from gateway.types.errors import InvalidRequestError
from gateway.types.function import Resources
from gateway.types.ids import FunctionId
from tests.gateway.queue.running import queue_in

Enter = Callable[[str], Any]
# The API's own wire types raise pydantic's ValidationError, which is a ValueError.
REFUSALS = (ValueError, InvalidRequestError)


def taken(enter: Enter, text: str) -> bool:
    """Whether the place takes the text."""
    try:
        enter(text)
    except REFUSALS:
        return False
    return True


def deploying(**fields: Any) -> FunctionWire:
    return FunctionWire.model_validate({"service": "f", "image": "i", **fields})


async def test_name_of_a_function_is_split_alike_by_calls_api_and_queue(tmp_path: Path) -> None:
    names = {
        "f": True,
        "f.openfaas-fn": True,
        "f.elsewhere": False,
        "f.": False,
        ".openfaas-fn": False,
        "openfaas-fn.f": False,
        "a.f.openfaas-fn": False,
    }
    async with queue_in(tmp_path) as queue:
        for name, known in names.items():
            expected = 200 if known else 404
            called = await queue.client.post(f"/function/{name}", content=b"x")
            described = await queue.client.get(f"/system/function/{name}")
            assert (called.status_code, described.status_code) == (expected, expected), name
            accepted = await queue.post(name)
            assert accepted.status_code == (202 if known else 404), name
            if known:
                view = await queue.done(accepted.headers["x-call-id"])
                assert (view.state, view.function) == (CallState.SUCCEEDED, "f.openfaas-fn"), name


def test_function_id_is_read_from_each_of_its_spellings() -> None:
    for function in (FunctionId("f"), FunctionId("f", "team")):
        assert {FunctionId.parse(text) for text in function.spellings} == {function}
    assert FunctionId("f").spellings == ("f.openfaas-fn", "f")
    assert FunctionId("f", "team").spellings == ("f.team",)


@pytest.mark.parametrize(
    ("text", "namespace", "function"),
    [
        ("f", "", FunctionId("f", "openfaas-fn")),
        ("f.team", "", FunctionId("f", "team")),
        ("a.b.team", "", FunctionId("a.b", "team")),
        ("f", "team", FunctionId("f", "team")),
        ("f.x", "team", FunctionId("f.x", "team")),
        ("f.", "", FunctionId("f", "")),
    ],
)
def test_function_id_is_what_it_writes(text: str, namespace: str, function: FunctionId) -> None:
    assert FunctionId.parse(text, namespace) == function
    assert FunctionId.parse(str(function)) == function


@pytest.mark.parametrize(
    "enter",
    [
        lambda text: deploying(limits={"cpu": text}),
        lambda text: deploying(requests={"cpu": text}),
        lambda text: cpu_cores(Resources(cpu=text), "limits"),
    ],
    ids=["limits", "requests", "provider"],
)
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("500m", True),
        ("0.5", True),
        (".5", True),
        ("2", True),
        (" 1 ", True),
        ("100.5m", True),
        ("5.", False),
        ("half", False),
        ("-1", False),
        ("1e3", False),
        ("٣", False),
        (".", False),
        ("m", False),
        ("1" * 10, False),
    ],
)
def test_cpu_quantity_is_the_same_everywhere(enter: Enter, text: str, good: bool) -> None:
    assert taken(enter, text) is good


def test_cpu_quantity_has_one_value_however_it_is_written() -> None:
    cores = [cpu_cores(Resources(cpu=text), "limits") for text in (".5", "0.5", "500m", "0.500")]
    assert cores == [0.5] * 4


@pytest.mark.parametrize(
    "enter",
    [
        lambda text: deploying(limits={"memory": text}),
        lambda text: deploying(requests={"memory": text}),
        lambda text: memory_bytes(Resources(memory=text), "limits"),
    ],
    ids=["limits", "requests", "provider"],
)
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("128Mi", True),
        ("1G", True),
        ("1048576", True),
        ("1.5Gi", True),
        ("0", False),
        ("0Mi", False),
        ("lots", False),
        ("-1Mi", False),
        ("1 Xi", False),
    ],
)
def test_memory_quantity_is_the_same_everywhere(enter: Enter, text: str, good: bool) -> None:
    assert taken(enter, text) is good


@pytest.mark.parametrize(
    "enter",
    [
        lambda text: deploying(secrets=[text]),
        lambda text: SecretNameWire(name=text),
        check_secret,
    ],
    ids=["deployment", "secret", "provider"],
)
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("token", True),
        ("a.b-c.d1", True),
        ("x" * 253, True),
        ("x" * 254, False),
        ("Token", False),
        ("a_b", False),
        ("a..b", False),
        (".a", False),
        ("a-", False),
        ("a/b", False),
        ("", False),
    ],
)
def test_secret_name_is_the_same_everywhere(enter: Enter, text: str, good: bool) -> None:
    assert taken(enter, text) is good


@pytest.mark.parametrize(
    "enter",
    [
        lambda text: deploying(service=text),
        lambda text: NamespaceWire(name=text).namespace(),
        lambda text: check_label("function", text),
    ],
    ids=["function", "namespace", "provider"],
)
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("f", True),
        ("f-1", True),
        ("1f", True),
        ("x" * 63, True),
        ("x" * 64, False),
        ("F", False),
        ("f-", False),
        ("f.x", False),
        ("f_x", False),
        ("", False),
    ],
)
def test_name_is_the_same_everywhere(enter: Enter, text: str, good: bool) -> None:
    assert taken(enter, text) is good


@pytest.mark.parametrize(
    "enter",
    [
        lambda text: GatewaySettings.load({"SLUICE_CALLBACK_TARGETS": text}),
        CallbackTargets,
    ],
    ids=["setting", "queue"],
)
@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("public,loopback", True),
        ("public, 10.1.0.0/16", True),
        ("fd00::/8", True),
        ("10.1.2.3", True),
        ("private", False),
        ("10.1.0.0/99", False),
        ("10.1.2.3/8", False),
        ("public,", False),
        ("public,,loopback", False),
    ],
)
def test_callback_networks_are_the_same_everywhere(enter: Enter, text: str, good: bool) -> None:
    assert taken(enter, text) is good
