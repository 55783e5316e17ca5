"""Alertmanager's webhook: one step of replicas for each alert that fires."""

import logging
import math
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ValidationError

from gateway.api.control import ControlPlane
from gateway.api.requests import MalformedError, function_id, parse_json, read_body
from gateway.types.errors import NotFoundError, SluiceError
from gateway.types.function import FunctionDeployment
from gateway.types.ids import FunctionId
from gateway.types.scaling import ScalingPolicy, read_label
from sluice.labels.functions import SCALE_FACTOR

LOG: Final = logging.getLogger(__name__)

BAD_FORMAT: Final = "Unable to parse alert, bad format."
# What alerts scale to at most, whatever the label says (faas gateway/handlers/alerthandler.go).
ALERT_MAX: Final = 5


class Labels(BaseModel):
    """The labels of an alert that are read."""

    function_name: str = ""


class Alert(BaseModel):
    """The part of an alert that is read."""

    status: str = ""
    labels: Labels = Labels()


class Alerts(BaseModel):
    """Alertmanager's document."""

    alerts: list[Alert] | None = None


def factor_of(deployment: FunctionDeployment) -> int:
    """Percent of the maximum that one alert adds; raises InvalidRequestError when no number."""
    return read_label(SCALE_FACTOR, deployment.labels)


def after_alert(policy: ScalingPolicy, factor: int, current: int, firing: bool) -> int:
    """The count after an alert.

    A firing one adds one step and never removes a replica; any other sets the minimum at once.
    A factor outside 1..100 switches alerts off.
    """
    if not 1 <= factor <= 100:
        return current
    if not firing:
        return policy.min_replicas
    ceiling = min(policy.max_replicas, ALERT_MAX)
    step = math.ceil(ceiling / 100 * factor)
    return max(current, min(current + step, ceiling))


def routes(control: ControlPlane) -> APIRouter:
    """Route of /system/alert."""
    router = APIRouter()

    @router.post("/system/alert")
    async def alert(request: Request) -> Response:
        body = await read_body(request, control.settings.json_bytes)
        try:
            document = Alerts.model_validate(parse_json(body))
        except (MalformedError, ValidationError):
            return PlainTextResponse(BAD_FORMAT, status_code=400)
        failures = [text for each in document.alerts or () if (text := await _apply(control, each))]
        return PlainTextResponse("\n".join(failures), status_code=500 if failures else 200)

    return router


async def _apply(control: ControlPlane, alert: Alert) -> str:
    """Scale the function that the alert names; returns the text of a failure, else nothing."""
    name = alert.labels.function_name
    if not name:
        return ""
    try:
        await _step(control, function_id(name, None), firing=alert.status == "firing")
    except NotFoundError:
        return ""
    except SluiceError as error:
        return f"unable to scale {name}: {error}"
    return ""


async def _step(control: ControlPlane, function: FunctionId, firing: bool) -> None:
    status = await control.provider.status(function)
    deployment = status.deployment
    policy, factor = ScalingPolicy.parse_bounds(deployment), factor_of(deployment)
    count = after_alert(policy, factor, status.replicas, firing)
    if count != status.replicas:
        await control.provider.scale(function, count)
        LOG.info("scaled by alert function=%s replicas=%d", function, count)
