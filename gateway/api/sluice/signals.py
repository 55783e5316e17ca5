"""Load that other programs report, such as consumer lag: a value for each function and signal."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.control import ControlPlane
from gateway.api.requests import function_id, read_model


class Report(BaseModel):
    """One value. function: `name` or `name.namespace`."""

    model_config = ConfigDict(strict=True)
    function: str = Field(min_length=1)
    signal: str = Field(pattern="^[a-z][a-z0-9-]{0,31}$")
    value: float = Field(ge=0, allow_inf_nan=False)


class Reports(BaseModel):
    """The body of POST /system/signals."""

    signals: list[Report] = Field(max_length=5000)


def routes(control: ControlPlane) -> APIRouter:
    """Route of /system/signals."""
    router = APIRouter()

    @router.post("/system/signals")
    async def report(request: Request) -> Response:
        reports = await read_model(request, Reports, control.settings.json_bytes)
        named = [(function_id(each.function, None), each) for each in reports.signals]
        for function, each in named:
            if not control.signals.report(function, each.signal, each.value):
                return Response("too many signals are reported\n", status_code=429)
        return Response(status_code=202)

    return router
