"""What connectors report: POST /system/signals."""

import httpx
import pytest

from gateway.api.control import ControlPlane
from gateway.types.ids import FunctionId


async def test_reports_of_several_reporters_are_added_up(
    api: httpx.AsyncClient, control: ControlPlane
) -> None:
    for signal, value in (("lag-a", 30), ("lag-b", 4.5), ("lag-a", 20)):
        report = {"function": "f.openfaas-fn", "signal": signal, "value": value}
        response = await api.post("/system/signals", json={"signals": [report]})
        assert response.status_code == 202
    assert control.signals.waiting(FunctionId("f")) == 24.5


@pytest.mark.parametrize(
    ("report", "status"),
    [
        ({"function": "f", "signal": "lag", "value": -1}, 400),
        ({"function": "f", "signal": "lag"}, 400),
        ({"function": "A B", "signal": "lag", "value": 1}, 404),
        ({"function": "f", "signal": "", "value": 1}, 400),
    ],
)
async def test_report_that_does_not_fit_is_refused_and_changes_nothing(
    api: httpx.AsyncClient, control: ControlPlane, report: dict[str, object], status: int
) -> None:
    good = {"function": "f", "signal": "lag", "value": 1}
    response = await api.post("/system/signals", json={"signals": [good, report]})
    assert response.status_code == status
    assert control.signals.waiting(FunctionId("f")) == 0


async def test_reports_need_the_password(api: httpx.AsyncClient) -> None:
    body = {"signals": [{"function": "f", "signal": "lag", "value": 1}]}
    assert (await api.post("/system/signals", json=body, auth=("a", "b"))).status_code == 401
