from typing import Any

import httpx
import pytest

from gateway.api.openfaas.alert import after_alert
from gateway.types.errors import UnavailableError
from gateway.types.ids import FunctionId
from gateway.types.scaling import ScalingPolicy
from tests.gateway.api.recording import RecordingProvider


def alerts(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {
        "status": "firing",
        "receiver": "scale-up",
        "alerts": [
            {"status": status, "labels": {"alertname": "x", "function_name": name}}
            for status, name in pairs
        ],
    }


@pytest.mark.parametrize(
    ("least", "most", "factor", "current", "firing", "expected"),
    [
        (1, 20, 10, 1, True, 2),
        (1, 4, 50, 1, True, 3),
        (1, 4, 50, 3, True, 4),
        (1, 4, 50, 4, True, 4),
        (1, 20, 100, 1, True, 5),
        (1, 20, 100, 8, True, 8),
        (2, 4, 50, 4, False, 2),
        (0, 4, 50, 4, False, 0),
        (1, 4, 0, 3, True, 3),
        (1, 4, 101, 3, False, 3),
    ],
)
def test_after_alert_steps_up_and_falls_to_the_minimum(
    least: int, most: int, factor: int, current: int, firing: bool, expected: int
) -> None:
    scaling = ScalingPolicy(min_replicas=least, max_replicas=most)
    assert after_alert(scaling, factor, current, firing) == expected


async def test_alert_scales_the_functions_it_names(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    labels = {"com.openfaas.scale.max": "4", "com.openfaas.scale.factor": "50"}
    deployment = {"service": "echo", "image": "i", "labels": labels}
    await api.post("/system/functions", json=deployment)
    body = alerts(("firing", "echo.openfaas-fn"))
    response = await api.post("/system/alert", json=body)
    assert (response.status_code, response.text) == (200, "")
    assert provider.scaled == [(FunctionId("echo"), 3)]
    await api.post("/system/alert", json=alerts(("resolved", "echo")))
    assert provider.scaled[1:] == [(FunctionId("echo"), 1)]
    await api.post("/system/alert", json=alerts(("resolved", "echo")))
    assert provider.changes == 3


async def test_alert_for_nobody_is_ignored(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    body = alerts(("firing", "gone.openfaas-fn"), ("firing", ""), ("firing", "../x"))
    body["alerts"].append({"status": "firing", "labels": {}})
    assert (await api.post("/system/alert", json=body)).status_code == 200
    assert provider.changes == 0


WRONG_NAME = b'{"alerts": [{"status": "firing", "labels": {"function_name": 5}}]}'


async def test_alert_without_alerts_is_taken_as_go_takes_null(api: httpx.AsyncClient) -> None:
    response = await api.post("/system/alert", content=b'{"alerts": null}')
    assert (response.status_code, response.text) == (200, "")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"alerts": 3}', b'{"alerts": [3]}', WRONG_NAME]
)
async def test_alert_bad_document_is_refused(api: httpx.AsyncClient, body: bytes) -> None:
    response = await api.post("/system/alert", content=body)
    assert (response.status_code, response.text) == (400, "Unable to parse alert, bad format.")


async def test_alert_failing_scale_is_told_line_by_line(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    for name in ("one", "two"):
        await api.post("/system/functions", json={"service": name, "image": "i"})
    provider.broken = UnavailableError("no room")
    response = await api.post("/system/alert", json=alerts(("firing", "one"), ("firing", "two")))
    assert response.status_code == 500
    assert response.text.splitlines() == [
        "unable to scale one: no room",
        "unable to scale two: no room",
    ]
